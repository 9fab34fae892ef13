package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/test/e2e"
)

// registryRig is a daemon that is only a registry, which collects all the time.
type registryRig struct {
	t            *testing.T
	dir, address string
	daemon       *exec.Cmd

	mu    sync.Mutex // guards what is below
	acked map[string]digest.Digest
}

// TestKilledRegistry kills a registry while images are pushed and old ones go. What was
// answered with 201 must be there, and what is there must be whole.
func TestKilledRegistry(t *testing.T) {
	bin, err := filepath.Abs("../../bin/orlopd")
	if err != nil {
		t.Fatal(err)
	}
	r := &registryRig{t: t, dir: t.TempDir(), address: e2e.FreeAddress(t), acked: map[string]digest.Digest{}}
	config := fmt.Sprintf(`version = 4
only_plugins = ["io.containerd.server.v1.registry", "io.containerd.gc.v1.scheduler"]
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "10ms"
schedule_delay = "10ms"
[plugins."io.containerd.server.v1.registry"]
listen = %q
grace = "2s"
retention = [{repositories = ["old/**"], tags = ["**"], keep = 2, untagged = "1s"}]
`, r.address)
	if err := os.WriteFile(filepath.Join(r.dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.kill() })
	for n := range *rounds {
		rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
		r.start(bin)
		r.check()
		var work sync.WaitGroup
		stop := make(chan struct{})
		for i := range 4 {
			work.Go(func() { r.pushUntil(stop, n, i) })
		}
		work.Go(func() { r.collectUntil(stop) })
		time.Sleep(time.Duration(100+rnd.IntN(900)) * time.Millisecond)
		r.kill()
		close(stop)
		work.Wait()
		if t.Failed() {
			t.Fatalf("round %d of seed %d", n, *seed)
		}
	}
	r.start(bin)
	r.check()
	if len(r.acked) == 0 {
		t.Error("nothing was ever pushed")
	}
	r.do("POST", "/v2/_orlop/gc", "", "")
	for i := range 4 {
		var list struct{ Tags []string }
		if r.read(fmt.Sprintf("/v2/old/%d/tags/list", i), &list); len(list.Tags) != 2 {
			t.Errorf("old/%d has tags %v, two should stay", i, list.Tags)
		}
	}
}

func (r *registryRig) start(bin string) {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.daemon = exec.Command(bin, "--config", filepath.Join(r.dir, "config.toml"), "--root", filepath.Join(r.dir, "root"), "--state", filepath.Join(r.dir, "state"))
	r.daemon.Stdout, r.daemon.Stderr = log, log
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	for range 400 {
		if code, _, _ := r.do("GET", "/v2/", "", ""); code == 200 {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	r.t.Fatalf("the registry doesn't come back\n%s", text)
}

func (r *registryRig) kill() {
	if r.daemon != nil {
		r.daemon.Process.Signal(syscall.SIGKILL)
		r.daemon.Wait()
		r.daemon = nil
	}
}

// do makes a request; an error is a registry that is gone.
func (r *registryRig) do(method, path, body, kind string) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://"+r.address+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// pushUntil pushes images, each of a blob that others have too and one of its own.
func (r *registryRig) pushUntil(stop chan struct{}, round, worker int) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		repo := fmt.Sprintf("kept/%d", worker)
		if i%2 == 1 {
			repo = fmt.Sprintf("old/%d", worker)
		}
		tag := fmt.Sprintf("r%d-%d", round, i)
		d, err := r.push(repo, strings.Repeat("shared ", 1000), strings.Repeat(repo+tag, 20_000))
		if err == nil {
			err = r.name(repo, tag, d)
		}
		if err != nil {
			return
		}
	}
}

// push sends an image's blobs and returns its manifest.
func (r *registryRig) push(repo string, blobs ...string) (string, error) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, b := range blobs {
		d := digest.FromString(b)
		code, _, err := r.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), b, "")
		if err != nil {
			return "", err
		}
		if code != http.StatusCreated {
			r.t.Errorf("blob of %s: status %d", repo, code)
			return "", errors.New("refused")
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(b))})
	}
	m.Config = m.Layers[0]
	data, err := json.Marshal(m)
	return string(data), err
}

// name puts the manifest, and remembers that it was taken.
func (r *registryRig) name(repo, tag, body string) error {
	code, text, err := r.do("PUT", "/v2/"+repo+"/manifests/"+tag, body, ocispec.MediaTypeImageManifest)
	switch {
	case err != nil:
		return err
	case code != http.StatusCreated:
		r.t.Errorf("manifest of %s: status %d %s", repo, code, text)
		return errors.New("refused")
	case strings.HasPrefix(repo, "kept/"):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.acked[repo+":"+tag] = digest.FromString(body)
	}
	return nil
}

func (r *registryRig) collectUntil(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
			r.do("POST", "/v2/_orlop/gc", "", "")
		}
	}
}

// check reads everything that there is, and compares it with what was taken.
func (r *registryRig) check() {
	r.t.Helper()
	found := map[string]digest.Digest{}
	var list struct{ Repositories, Tags []string }
	r.read("/v2/_catalog", &list)
	for _, repo := range list.Repositories {
		code, body, err := r.do("GET", "/v2/"+repo+"/tags/list", "", "")
		if err != nil || code != 200 && code != 404 {
			r.t.Errorf("tags of %s: %d %v", repo, code, err)
		}
		list.Tags = nil
		json.Unmarshal(body, &list)
		for _, tag := range list.Tags {
			found[repo+":"+tag] = r.whole(repo, tag)
		}
	}
	for name, d := range r.acked {
		if found[name] != d {
			r.t.Errorf("%s was taken and is lost: %q", name, found[name])
		}
	}
}

func (r *registryRig) read(path string, into any) {
	code, body, err := r.do("GET", path, "", "")
	if err == nil && code == 200 {
		err = json.Unmarshal(body, into)
	}
	if err != nil || code != 200 {
		r.t.Errorf("%s: %d %v", path, code, err)
	}
}

// whole checks that all of an image can be read; an old one may go meanwhile.
func (r *registryRig) whole(repo, tag string) digest.Digest {
	code, body, err := r.do("GET", "/v2/"+repo+"/manifests/"+tag, "", "")
	if err != nil || code != 200 {
		if !strings.HasPrefix(repo, "old/") || code != 404 {
			r.t.Errorf("%s:%s: %d %v", repo, tag, code, err)
		}
		return ""
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		r.t.Errorf("%s:%s: %v", repo, tag, err)
	}
	for _, l := range m.Layers {
		code, data, err := r.do("GET", "/v2/"+repo+"/blobs/"+l.Digest.String(), "", "")
		if strings.HasPrefix(repo, "old/") && code == 404 {
			continue
		}
		if err != nil || code != 200 || digest.FromBytes(data) != l.Digest {
			r.t.Errorf("%s:%s: blob %s: %d %v, %d bytes", repo, tag, l.Digest, code, err, len(data))
		}
	}
	return digest.FromBytes(body)
}
