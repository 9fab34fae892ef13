package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/remote"
)

// chain is a registry and one that caches it. What goes to the first is counted, and
// may be broken.
type chain struct {
	up, cache *rig
	counts    sync.Map // "GET blobs" and so on: *atomic.Int64
	breaks    atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
}

func newChain(t *testing.T, cfg registry.CacheConfig) *chain {
	c := &chain{up: newRig(t, registry.Config{}, nil)}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		n, _ := c.counts.LoadOrStore(r.Method+" "+parts[max(len(parts)-2, 0)], new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if fn := c.breaks.Load(); fn == nil || !(*fn)(w, r) {
			c.up.reg.Handler().ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	cfg.Temp = t.TempDir()
	cfg.Upstreams = []registry.Upstream{{Prefix: "hub", Host: strings.TrimPrefix(front.URL, "http://"), Client: remote.New(remote.Config{})}}
	c.cache = newRig(t, registry.Config{Cache: cfg}, nil)
	return c
}

func (c *chain) count(what string) int64 {
	n, ok := c.counts.Load(what)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

func (c *chain) breakBy(fn func(w http.ResponseWriter, r *http.Request) bool) { c.breaks.Store(&fn) }

// sized pushes an image to the upstream whose layer has its true size.
func (c *chain) sized(repo, tag, text string) (layer digest.Digest) {
	r := c.up
	r.t.Helper()
	layer = r.push(repo, text)
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[{"mediaType":"x/z","digest":%q,"size":%d}]}`,
		layer, len(text), layer, len(text))
	r.want(r.do("PUT", "/v2/"+repo+"/manifests/"+tag, body, "Content-Type", "application/vnd.oci.image.manifest.v1+json"), 201, "")
	return layer
}

func TestCacheFetchesOnce(t *testing.T) {
	c := newChain(t, registry.CacheConfig{})
	text := strings.Repeat("layer ", 500_000)
	layer := c.sized("team/app", "1", text)
	var work sync.WaitGroup
	for range 200 {
		work.Go(func() {
			c.cache.want(c.cache.do("GET", "/v2/hub/team/app/manifests/1", ""), 200, layer.String())
			got := c.cache.do("GET", "/v2/hub/team/app/blobs/"+layer.String(), "")
			if got.StatusCode != 200 || got.body != text {
				t.Errorf("status %d, %d bytes", got.StatusCode, len(got.body))
			}
		})
	}
	work.Wait()
	if n := c.count("GET blobs"); n != 1 {
		t.Errorf("the blob was fetched %d times", n)
	}
	if n := c.count("GET manifests"); n != 1 {
		t.Errorf("the manifest was fetched %d times", n)
	}
	c.cache.want(c.cache.do("GET", "/v2/hub/team/app/blobs/"+layer.String(), "", "Range", "bytes=6-10"), 206, "layer")
	c.cache.want(c.cache.do("POST", "/v2/hub/team/app/blobs/uploads/", ""), 403, "is a cache")
	c.cache.want(c.cache.do("GET", "/v2/hub/team/none/manifests/1", ""), 404, "MANIFEST_UNKNOWN")
	c.cache.want(c.cache.do("GET", "/v2/hub/team/app/blobs/"+digest.FromString("x").String(), ""), 404, "BLOB_UNKNOWN")
}

func TestCacheFollowsTagsAndServesWhatItHas(t *testing.T) {
	c := newChain(t, registry.CacheConfig{Fresh: time.Nanosecond})
	one := c.sized("app", "latest", "one")
	get := "/v2/hub/app/manifests/latest"
	c.cache.want(c.cache.do("GET", get, ""), 200, one.String())
	c.cache.want(c.cache.do("GET", get, ""), 200, one.String())
	if n := c.count("GET manifests"); n != 1 {
		t.Errorf("what didn't change was fetched %d times", n)
	}
	two := c.sized("app", "latest", "two")
	c.cache.want(c.cache.do("GET", get, ""), 200, two.String())
	c.breakBy(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	c.cache.want(c.cache.do("GET", get, ""), 200, two.String())
	c.cache.want(c.cache.do("GET", "/v2/hub/app/manifests/other", ""), 503, "")
}

// Neither a connection that breaks nor wrong bytes reach a client.
func TestCacheOfABadUpstream(t *testing.T) {
	c := newChain(t, registry.CacheConfig{})
	text := strings.Repeat("0123456789", 100_000)
	layer := c.sized("app", "1", text)
	c.cache.want(c.cache.do("GET", "/v2/hub/app/manifests/1", ""), 200, "")
	var tries atomic.Int32
	c.breakBy(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || tries.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		w.Write([]byte(text[:300_000]))
		panic(http.ErrAbortHandler)
	})
	got := c.cache.want(c.cache.do("GET", "/v2/hub/app/blobs/"+layer.String(), ""), 200, "")
	if got.body != text || tries.Load() != 2 {
		t.Errorf("%d bytes after %d tries", len(got.body), tries.Load())
	}
	bad := c.sized("app", "2", "good bytes")
	c.cache.want(c.cache.do("GET", "/v2/hub/app/manifests/2", ""), 200, "")
	c.breakBy(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Write([]byte("evil bytes"))
		return true
	})
	resp, err := http.Get(c.cache.http.URL + "/v2/hub/app/blobs/" + bad.String())
	if err == nil {
		data := make([]byte, 20)
		n, _ := resp.Body.Read(data)
		if resp.Body.Close(); resp.StatusCode == 200 && n == len("evil bytes") {
			t.Error("wrong bytes came through whole")
		}
	}
}

// A manifest of an upstream opens nothing that others keep here.
func TestCacheKeepsSecrets(t *testing.T) {
	c := newChain(t, registry.CacheConfig{})
	secret := c.cache.push("private", "secret of another")
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"mediaType":"x/z","digest":%q,"size":17,"urls":[]}]}`, secret)
	c.breakBy(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Write([]byte(body))
		return true
	})
	c.cache.want(c.cache.do("GET", "/v2/hub/evil/manifests/1", ""), 200, secret.String())
	if got := c.cache.do("GET", "/v2/hub/evil/blobs/"+secret.String(), ""); got.StatusCode == 200 || strings.Contains(got.body, "secret of") {
		t.Errorf("status %d %s", got.StatusCode, got.body)
	}
}

func TestCacheForgetsTheOldest(t *testing.T) {
	c := newChain(t, registry.CacheConfig{Bytes: 25_000})
	var layers []digest.Digest
	for i := range 3 {
		layers = append(layers, c.sized("app", fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 10_000)))
		c.cache.want(c.cache.do("GET", fmt.Sprintf("/v2/hub/app/manifests/%d", i), ""), 200, "")
	}
	get := func(i int) { c.cache.want(c.cache.do("GET", "/v2/hub/app/blobs/"+layers[i].String(), ""), 200, "") }
	get(0)
	get(1)
	get(0)
	get(2) // 1 goes
	before := c.count("GET blobs")
	get(0)
	if c.count("GET blobs") != before {
		t.Error("what was read last was forgotten")
	}
	get(1)
	if c.count("GET blobs") != before+1 {
		t.Error("what was read first stayed")
	}
}
