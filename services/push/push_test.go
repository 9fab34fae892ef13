package push_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/test/imagerig"
)

var amd64, arm64 = imagerig.Linux("amd64"), imagerig.Linux("arm64")

func layerOf(t testing.TB, name string) []byte {
	return imagerig.Tar(t, imagerig.File{Name: name, Data: []byte(strings.Repeat(name, 100))})
}

func pushTo(rig *imagerig.Rig, name, ref string, platforms ...ocispec.Platform) error {
	return rig.Transfer(rig.Ctx, transfer.Store{Name: name, Platforms: platforms}, transfer.Registry{Reference: ref}, nil)
}

func TestPush(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, amd64, layerOf(t, "a"), layerOf(t, "b"))
	rig.Store("box", img)
	if err := pushTo(rig, "box", reg.Host+"/app:v1"); err != nil {
		t.Fatal(err)
	}
	body, ok := reg.Manifest("app", "v1")
	if !ok || !bytes.Equal(body, img.Manifests[0].Body) {
		t.Fatalf("the registry has %q", body)
	}
	for d, want := range img.Blobs {
		if got, _ := reg.Blob("app", d); !bytes.Equal(got, want) {
			t.Errorf("blob %s: %d bytes, want %d", d, len(got), len(want))
		}
	}
	// What is there is skipped.
	before := len(reg.Requests("P"))
	if err := pushTo(rig, "box", reg.Host+"/app:v1"); err != nil {
		t.Fatal(err)
	}
	if again := reg.Requests("P")[before:]; len(again) != 0 {
		t.Fatalf("a second push sends %q", again)
	}
	// Elsewhere in the registry it is mounted from here.
	if err := pushTo(rig, "box", reg.Host+"/other/app:v1"); err != nil {
		t.Fatal(err)
	}
	if n := len(reg.Requests("POST /v2/other/app/blobs/uploads/?from=app&mount=")); n != 3 {
		t.Fatalf("%d mounts, want 3: %q", n, reg.Requests("POST"))
	}
	if n := len(reg.Requests("PUT /v2/other/app/blobs/")); n != 0 {
		t.Fatalf("%d blobs are sent", n)
	}
}

// What comes from a registry is mounted when it goes back to another repository.
func TestPulledIsMounted(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	reg.Put("from/base", "v1", imagerig.NewImage(t, amd64, layerOf(t, "a")))
	if err := rig.Pull(reg.Host + "/from/base:v1"); err != nil {
		t.Fatal(err)
	}
	if err := pushTo(rig, reg.Host+"/from/base:v1", reg.Host+"/to:v1"); err != nil {
		t.Fatal(err)
	}
	if n := len(reg.Requests("PUT /v2/to/blobs/")); n != 0 {
		t.Fatalf("%d blobs are sent", n)
	}
}

// containerd's clients note sources without the port.
func TestMountOfClientsLabel(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, amd64, layerOf(t, "a"))
	reg.Put("from/base", "v1", img)
	rig.Store("box", img)
	for d := range img.Blobs {
		labels := map[string]string{"containerd.io/distribution.source.127.0.0.1": "elsewhere,from/base"}
		if _, err := rig.Content.Update(rig.Ctx, content.Info{Digest: d, Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	if err := pushTo(rig, "box", reg.Host+"/from/app:v1"); err != nil {
		t.Fatal(err)
	}
	if n := len(reg.Requests("PUT /v2/from/app/blobs/")); n != 0 {
		t.Fatalf("%d blobs are sent: %q", n, reg.Requests("POST"))
	}
}

// Of an index goes what is asked for and there; the identity of what goes whole is
// kept.
func TestPushPlatforms(t *testing.T) {
	one, two := imagerig.NewImage(t, amd64, layerOf(t, "one")), imagerig.NewImage(t, arm64, layerOf(t, "two"))
	three := imagerig.NewImage(t, imagerig.Linux("s390x"), layerOf(t, "three"))
	idx := imagerig.NewIndex(t, []ocispec.Platform{amd64, arm64, imagerig.Linux("s390x")}, one, two, three)
	for _, c := range []struct {
		name      string
		platforms []ocispec.Platform
		missing   *ocispec.Descriptor
		want      string // digest, or media type where an index is made
	}{
		{"all", nil, nil, idx.Target.Digest.String()},
		{"one platform", []ocispec.Platform{arm64}, nil, two.Target.Digest.String()},
		{"two platforms", []ocispec.Platform{arm64, amd64}, nil, ocispec.MediaTypeImageIndex},
		{"all that are there", nil, &two.Layers[0], ocispec.MediaTypeImageIndex},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
			rig.Store("box", idx)
			if c.missing != nil {
				if err := rig.Content.Delete(rig.Ctx, c.missing.Digest); err != nil {
					t.Fatal(err)
				}
			}
			if err := pushTo(rig, "box", reg.Host+"/app:v1", c.platforms...); err != nil {
				t.Fatal(err)
			}
			body, ok := reg.Manifest("app", "v1")
			if !ok {
				t.Fatal("there is no manifest")
			}
			got := imagerig.Descriptor("", body).Digest.String()
			if strings.HasPrefix(c.want, "sha256:") && got != c.want {
				t.Fatalf("the tag is %s, want %s", got, c.want)
			}
			if !strings.HasPrefix(c.want, "sha256:") && (strings.Count(string(body), "architecture") != 2 || got == idx.Target.Digest.String()) {
				t.Fatalf("the tag is %s", body)
			}
		})
	}
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	rig.Store("box", one)
	if err := pushTo(rig, "box", reg.Host+"/app:v1", arm64); !errdefs.IsNotFound(err) {
		t.Fatalf("a platform that isn't there: %v", err)
	}
	if err := rig.Content.Delete(rig.Ctx, one.Layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	if err := pushTo(rig, "box", reg.Host+"/app:v1"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), one.Layers[0].Digest.String()) {
		t.Fatalf("an image with a missing layer: %v", err)
	}
	if n := len(reg.Requests("P")); n != 0 {
		t.Fatalf("%d requests change the registry", n)
	}
}

// A referrer's manifest goes as it is; nothing is asked or told of referrers.
func TestPushLeavesReferrersAlone(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, amd64, layerOf(t, "a"))
	body := []byte(strings.Replace(string(img.Manifests[0].Body), `{"schemaVersion":2`,
		fmt.Sprintf(`{"schemaVersion":2,"subject":{"mediaType":%q,"digest":%q,"size":%d}`, img.Target.MediaType, img.Target.Digest, img.Target.Size), 1))
	img.Target = imagerig.Descriptor(img.Target.MediaType, body)
	img.Manifests = []imagerig.Manifest{{Desc: img.Target, Body: body}}
	rig.Store("sig", img)
	if err := pushTo(rig, "sig", reg.Host+"/app:sig"); err != nil {
		t.Fatal(err)
	}
	if got, _ := reg.Manifest("app", "sig"); !bytes.Equal(got, body) {
		t.Fatalf("the manifest is changed: %s", got)
	}
	for _, r := range reg.Requests("") {
		if strings.Contains(r, "referrers") || strings.Contains(r, "/manifests/sha256-") {
			t.Fatalf("it does %s", r)
		}
	}
}

func TestPushLimit(t *testing.T) {
	cfg := imagerig.Config{Pull: pull.DefaultConfig(), Push: push.Config{MaxUploads: 2}, Archive: archive.DefaultConfig(), Unpack: unpack.DefaultConfig()}
	rig, reg := imagerig.NewWith(t, cfg), imagerig.NewRegistry(t)
	var now, most atomic.Int64
	var mu sync.Mutex
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") {
			return false
		}
		n := now.Add(1)
		mu.Lock()
		most.Store(max(n, most.Load()))
		mu.Unlock()
		defer now.Add(-1)
		reg.Handle(w, r)
		return true
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for i := range 4 {
		name := fmt.Sprint("box", i)
		rig.Store(name, imagerig.NewImage(t, amd64, layerOf(t, name+"a"), layerOf(t, name+"b"), layerOf(t, name+"c")))
		wg.Go(func() { errs <- pushTo(rig, name, reg.Host+"/"+name+":v1") })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if most.Load() > 2 {
		t.Fatalf("%d uploads at once, 2 are allowed", most.Load())
	}
}

// Skipped manifests are told of.
func TestPushTellsWhatItLeavesOut(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	one, two := imagerig.NewImage(t, amd64, layerOf(t, "one")), imagerig.NewImage(t, arm64, layerOf(t, "two"))
	idx := imagerig.NewIndex(t, []ocispec.Platform{amd64, arm64}, one, two)
	rig.Store("box", idx)
	if err := rig.Content.Delete(rig.Ctx, two.Target.Digest); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	err := rig.Transfer(rig.Ctx, transfer.Store{Name: "box"}, transfer.Registry{Reference: reg.Host + "/app:v1"}, func(s progress.Step) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, s.Event+" "+s.Name)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(told, "\n"), "skipped, not in the store linux/arm64") {
		t.Fatalf("told %q", told)
	}
}

func TestTagOverwrites(t *testing.T) {
	rig := imagerig.New(t)
	rig.Store("one", imagerig.NewImage(t, amd64, layerOf(t, "1")))
	two := imagerig.NewImage(t, amd64, layerOf(t, "2"))
	rig.Store("two", two)
	for range 2 {
		if err := rig.Transfer(rig.Ctx, transfer.Store{Name: "two"}, transfer.Store{Name: "one", Labels: map[string]string{"a": "b"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := rig.Images.Get(rig.Ctx, "one")
	if err != nil || got.Target.Digest != two.Target.Digest || got.Labels["a"] != "b" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := rig.Transfer(rig.Ctx, transfer.Store{Name: "none"}, transfer.Store{Name: "x"}, nil); !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	if err := rig.Transfer(rig.Ctx, transfer.Import{}, transfer.Registry{}, nil); !errdefs.IsNotImplemented(err) {
		t.Fatal(err)
	}
}
