package registry_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/services/registry"
)

func patterns(t *testing.T, texts ...string) core.Patterns {
	t.Helper()
	ps, err := core.ParsePatterns(texts)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestImmutableTags(t *testing.T) {
	r := newRig(t, registry.Config{Immutable: []registry.TagRule{{Repositories: patterns(t, "a/**"), Tags: patterns(t, "v*")}}}, nil)
	d := r.image("a/x", "v1", "one")
	if again := r.image("a/x", "v1", "one"); again != d { // the same is no move
		t.Error("the digest changed")
	}
	config, layer := r.push("a/x", "config of two"), r.push("a/x", "two")
	body := manifest(config, layer)
	r.want(r.do("PUT", "/v2/a/x/manifests/v1", body, "Content-Type", ocispec.MediaTypeImageManifest), 409, "tag v1 of repository a/x is immutable")
	r.want(r.do("PUT", "/v2/a/x/manifests/"+digest.FromString(body).String()+"?tag=ok&tag=v1", body, "Content-Type", ocispec.MediaTypeImageManifest), 409, "immutable")
	r.want(r.do("GET", "/v2/a/x/manifests/ok", ""), 404, "") // all or nothing
	r.want(r.do("DELETE", "/v2/a/x/manifests/v1", ""), 409, "immutable")
	r.want(r.do("DELETE", "/v2/a/x/manifests/"+d.String(), ""), 409, "immutable")
	r.image("a/x", "latest", "one")
	r.image("a/x", "latest", "two")
	r.image("b", "v1", "one")
	r.image("b", "v1", "two")
}

func TestQuota(t *testing.T) {
	r := newRig(t, registry.Config{Quotas: []registry.Quota{{Repositories: patterns(t, "a/**"), Bytes: 1000}}}, nil)
	r.push("a/1", strings.Repeat("x", 600))
	r.push("a/2", strings.Repeat("x", 600)) // counted once
	r.push("b", strings.Repeat("y", 5000))  // not of the quota
	big := strings.Repeat("z", 500)
	d := digest.FromString(big).String()
	r.want(r.do("POST", "/v2/a/2/blobs/uploads/?digest="+d, big), 403, "the quota of a/** is 1000 bytes, of which 600 are in use: there is no room for 500 more")
	r.want(r.do("HEAD", "/v2/a/2/blobs/"+d, ""), 404, "")
	r.want(r.do("POST", "/v2/a/1/blobs/uploads/?digest="+d, strings.Repeat("z", 1001)), 413, "more than 1000 bytes")
	at := r.want(r.do("POST", "/v2/a/1/blobs/uploads/", ""), 202, "").Header.Get("Location")
	r.want(r.do("PATCH", at, strings.Repeat("z", 900)), 202, "")
	r.want(r.do("PATCH", at, strings.Repeat("z", 101)), 413, "more than 1000 bytes")
	old := digest.FromString(strings.Repeat("x", 600)).String()
	for _, repo := range []string{"a/1", "a/2"} {
		r.want(r.do("DELETE", "/v2/"+repo+"/blobs/"+old, ""), 202, "")
	}
	r.push("a/2", big) // there is room again, at once
}

// Uploads side by side don't get past a quota together.
func TestQuotaHoldsForManyAtOnce(t *testing.T) {
	r := newRig(t, registry.Config{Quotas: []registry.Quota{{Repositories: patterns(t, "**"), Bytes: 1000}}}, nil)
	var work sync.WaitGroup
	codes := make([]int, 20)
	for i := range codes {
		work.Go(func() {
			text := fmt.Sprintf("%0200d", i)
			codes[i] = r.do("POST", "/v2/a/blobs/uploads/?digest="+digest.FromString(text).String(), text).StatusCode
		})
	}
	work.Wait()
	n := 0
	for _, c := range codes {
		if c == 201 {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d uploads of 200 bytes went into 1000: %v", n, codes)
	}
}

func TestRetention(t *testing.T) {
	r := newRig(t, registry.Config{
		Immutable: []registry.TagRule{{Repositories: patterns(t, "**"), Tags: patterns(t, "ci-0")}},
		Retention: []registry.Retention{{TagRule: registry.TagRule{Repositories: patterns(t, "a"), Tags: patterns(t, "ci-*")}, Keep: 2, Untagged: time.Nanosecond}},
	}, nil)
	for i := range 5 {
		r.image("a", fmt.Sprintf("ci-%d", i), fmt.Sprint("build ", i))
	}
	kept := r.image("a", "release", "release")
	r.image("b", "ci-1", "elsewhere")
	signed := r.want(r.do("PUT", "/v2/a/manifests/sig", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"subject":{"mediaType":%q,"digest":%q,"size":1}}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest, kept), "Content-Type", ocispec.MediaTypeImageManifest), 201, "").Header.Get("Docker-Content-Digest")
	r.want(r.do("DELETE", "/v2/a/manifests/sig", ""), 202, "") // it is reached from its subject
	gc := func(args string) (removed []registry.Removal) {
		t.Helper()
		var out struct{ Removed []registry.Removal }
		if err := json.Unmarshal([]byte(r.want(r.do("POST", "/v2/_orlop/gc"+args, ""), 200, "").body), &out); err != nil {
			t.Fatal(err)
		}
		return out.Removed
	}
	if dry := gc("?dry=true"); len(dry) != 2 || dry[0].Tag != "ci-2" || dry[1].Tag != "ci-1" || dry[0].Why != "it is not among the last 2" {
		t.Errorf("would remove %v", dry)
	}
	r.want(r.do("GET", "/v2/a/tags/list", ""), 200, `["ci-0","ci-1","ci-2","ci-3","ci-4","release"]`)
	if got := gc(""); len(got) != 4 { // two tags, and their manifests
		t.Errorf("removed %v", got)
	}
	r.want(r.do("GET", "/v2/a/tags/list", ""), 200, `["ci-0","ci-3","ci-4","release"]`)
	r.want(r.do("GET", "/v2/a/manifests/"+signed, ""), 200, "")
	r.want(r.do("GET", "/v2/a/referrers/"+kept.String(), ""), 200, signed)
	r.want(r.do("GET", "/v2/b/manifests/ci-1", ""), 200, "")
	if got := gc(""); len(got) != 0 {
		t.Errorf("removed %v more", got)
	}
	r.want(r.do("GET", "/v2/_orlop/gc", ""), 405, "")
}

func TestEvents(t *testing.T) {
	var mu sync.Mutex
	var got []string
	r := newRig(t, registry.Config{Listeners: []func(registry.Event){func(e registry.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(e.Kind, " ", e.Repository, " ", e.Tag, " ", e.Digest != "", " ", e.From != ""))
	}}}, nil)
	d := r.image("a", "1", "x")
	r.do("HEAD", "/v2/a/manifests/1", "")
	r.do("GET", "/v2/a/manifests/1", "")
	r.do("GET", "/v2/a/manifests/"+d.String(), "")
	r.do("DELETE", "/v2/a/manifests/1", "")
	r.do("DELETE", "/v2/a/manifests/"+d.String(), "")
	r.do("DELETE", "/v2/a/manifests/"+d.String(), "") // nothing happens
	want := "push a 1 true true; pull a 1 true true; pull a  true true; delete a 1 false true; delete a  true true"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
}
