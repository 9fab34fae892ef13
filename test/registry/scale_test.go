package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	manyThings   = 10_000
	emptyIndex   = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	typeOfIndex  = "application/vnd.oci.image.index.v1+json"
	tagsAtOnce   = 100
	fillParallel = 64
)

// put puts an empty index.
func (d *daemon) put(c *http.Client, path string) error {
	req, err := http.NewRequest("PUT", d.url(path), strings.NewReader(emptyIndex))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", typeOfIndex)
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: %s %s", path, res.Status, text)
	}
	return nil
}

// fill makes n repositories, and n tags in one.
func (d *daemon) fill(n int) {
	d.t.Helper()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: fillParallel}}
	defer c.CloseIdleConnections()
	paths := make(chan string)
	var work sync.WaitGroup
	for range fillParallel {
		work.Go(func() {
			for path := range paths {
				if err := d.put(c, path); err != nil {
					d.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		paths <- fmt.Sprintf("/v2/team%d/app%05d/manifests/v1", i%7, i)
	}
	close(paths)
	work.Wait()
	for i := 0; i < n; i += tagsAtOnce {
		args := url.Values{}
		for k := i; k < i+tagsAtOnce && k < n; k++ {
			args.Add("tag", fmt.Sprintf("t%05d", k))
		}
		if err := d.put(c, "/v2/many/tags/manifests/first?"+args.Encode()); err != nil {
			d.t.Fatal(err)
		}
	}
}

// list reads a list to its end, page by page, and the longest that a page took.
func (d *daemon) list(path, key string) (all []string, longest time.Duration) {
	d.t.Helper()
	for path != "" {
		began := time.Now()
		code, header, text := d.ask("GET", path, nil)
		longest = max(longest, time.Since(began))
		var page map[string]json.RawMessage
		var names []string
		if err := json.Unmarshal([]byte(text), &page); err != nil || code != http.StatusOK {
			d.t.Fatalf("%s: %d %s", path, code, text)
		}
		if err := json.Unmarshal(page[key], &names); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, names...)
		path, _, _ = strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	}
	return all, longest
}

// resident is the memory of the daemon, in MiB.
func (d *daemon) resident() int {
	d.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("VmRSS:"))
	n, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		d.t.Fatal(err)
	}
	return n >> 10
}

// 10 000 repositories and 10 000 tags are listed whole and in order, by pages, and a
// quota counts over all of them.
func TestMany(t *testing.T) {
	config := fmt.Sprintf("[plugins.\"io.containerd.server.v1.registry\"]\nquotas = [{repositories = [\"team**\"], bytes = %d}]\n", len(emptyIndex)+10)
	d := serve(t, config)
	began := time.Now()
	d.fill(manyThings)
	t.Logf("%d repositories and %d tags in %v; the daemon has %d MiB", manyThings, manyThings, time.Since(began).Round(time.Millisecond), d.resident())
	d.kill()
	d.start()
	for path, key := range map[string]string{"/v2/_catalog": "repositories", "/v2/many/tags/tags/list": "tags", "/v2/many/tags/tags/list?n=50": "tags"} {
		names, longest := d.list(path, key)
		if len(names) != manyThings+1 || !slices.IsSorted(names) || len(slices.Compact(names)) != manyThings+1 {
			t.Errorf("%s: %d names, in order: %v", path, len(names), slices.IsSorted(names))
		}
		t.Logf("%s: a page took %v at most; the daemon has %d MiB", path, longest.Round(10*time.Microsecond), d.resident())
	}
	// The quota is as large as one index, however many repositories have it.
	other := strings.Replace(emptyIndex, `"manifests":[]`, `"manifests":[],"annotations":{"a":"b"}`, 1)
	for repo, want := range map[string]int{"team1/more": http.StatusForbidden, "free/more": http.StatusCreated} {
		code, _, text := d.ask("PUT", "/v2/"+repo+"/manifests/1", strings.NewReader(other), func(r *http.Request) { r.Header.Set("Content-Type", typeOfIndex) })
		if code != want {
			t.Errorf("%s: %d %s", repo, code, text)
		}
	}
	c := &http.Client{}
	if err := d.put(c, "/v2/team1/more/manifests/1"); err != nil {
		t.Errorf("what a quota's repositories have costs nothing: %v", err)
	}
}
