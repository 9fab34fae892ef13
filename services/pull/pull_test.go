package pull_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/test/imagerig"
)

var amd64 = imagerig.Linux("amd64")

func small(t testing.TB, names ...string) imagerig.Image {
	var tars [][]byte
	for _, n := range names {
		tars = append(tars, imagerig.Tar(t, imagerig.File{Name: n, Data: []byte(strings.Repeat(n, 1000))}))
	}
	return imagerig.NewImage(t, amd64, tars...)
}

// noise is a layer that gzip can't make small.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: snapshotters set owners and attributes")
	}
}

func TestPullUnpacks(t *testing.T) {
	needRoot(t)
	for _, ss := range []string{"overlayfs", "native"} {
		t.Run(ss, func(t *testing.T) {
			rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
			img := small(t, "a", "b", "c")
			reg.Put("x/app", "v1", img)
			if err := rig.Pull(reg.Host+"/x/app:v1", unpack.Target{Platform: amd64, Snapshotter: ss}); err != nil {
				t.Fatal(err)
			}
			got, err := rig.Images.Get(rig.Ctx, reg.Host+"/x/app:v1")
			if err != nil || got.Target.Digest != img.Target.Digest {
				t.Fatalf("%+v, %v", got, err)
			}
			if n := len(rig.Chains(ss)); n != 3 {
				t.Fatalf("%d snapshots, want 3", n)
			}
			info, err := rig.Content.Info(rig.Ctx, img.Config.Digest)
			if err != nil || info.Labels["containerd.io/gc.ref.snapshot."+ss] == "" {
				t.Fatalf("the config holds no snapshot: %v, %v", info.Labels, err)
			}
			if leases, _ := rig.Leases.List(rig.Ctx); len(leases) != 0 {
				t.Fatalf("leases are left: %v", leases)
			}
			// A second pull asks for nothing but the name.
			before := len(reg.Requests("GET"))
			if err := rig.Pull(reg.Host+"/x/app:v1", unpack.Target{Platform: amd64, Snapshotter: ss}); err != nil {
				t.Fatal(err)
			}
			if n := len(reg.Requests("GET")) - before; n != 1 {
				t.Fatalf("the second pull makes %d requests, want 1", n)
			}
		})
	}
}

// Only what is wanted of an index comes: content, or metadata, too.
func TestPullPlatforms(t *testing.T) {
	one, two := small(t, "one"), imagerig.NewImage(t, imagerig.Linux("arm64"), imagerig.Tar(t, imagerig.File{Name: "two", Data: []byte("two")}))
	idx := imagerig.NewIndex(t, []ocispec.Platform{amd64, imagerig.Linux("arm64")}, one, two)
	for _, c := range []struct {
		name      string
		platforms []ocispec.Platform
		metadata  bool
		has, not  []ocispec.Descriptor
	}{
		{"one", []ocispec.Platform{amd64}, false, []ocispec.Descriptor{one.Layers[0], one.Config}, []ocispec.Descriptor{two.Target, two.Config, two.Layers[0]}},
		{"metadata of all", []ocispec.Platform{amd64}, true, []ocispec.Descriptor{one.Layers[0], two.Target, two.Config}, []ocispec.Descriptor{two.Layers[0]}},
		{"all", nil, false, []ocispec.Descriptor{one.Layers[0], two.Layers[0]}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
			reg.Put("app", "v1", idx)
			ref := reg.Host + "/app:v1"
			err := rig.Transfer(rig.Ctx, transfer.Registry{Reference: ref}, transfer.Store{Name: ref, Platforms: c.platforms, AllMetadata: c.metadata}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range c.has {
				if !rig.Has(d.Digest) {
					t.Errorf("%s is not there", d.MediaType)
				}
			}
			for _, d := range c.not {
				if rig.Has(d.Digest) {
					t.Errorf("%s is there", d.MediaType)
				}
			}
		})
	}
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	reg.Put("app", "v1", idx)
	ref := reg.Host + "/app:v1"
	err := rig.Transfer(rig.Ctx, transfer.Registry{Reference: ref}, transfer.Store{Name: ref, Platforms: []ocispec.Platform{imagerig.Linux("s390x")}}, nil)
	if !errdefs.IsNotFound(err) {
		t.Fatalf("a platform that isn't there: %v", err)
	}
	if _, err := rig.Images.Get(rig.Ctx, ref); err == nil {
		t.Fatal("the image has a name though its pull failed")
	}
}

// A connection that is cut again and again is taken up where it was, within the
// one stream that also unpacks.
func TestPullResumesCutBody(t *testing.T) {
	needRoot(t)
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, amd64, imagerig.Tar(t, imagerig.File{Name: "noise", Data: noise(1, 1<<20)}))
	reg.Put("app", "v1", img)
	var from []int
	var mu sync.Mutex
	var cuts int
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, img.Layers[0].Digest.String()) {
			return false
		}
		var at int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
		mu.Lock()
		defer mu.Unlock()
		from = append(from, at)
		if cuts++; cuts > 3 {
			return false
		}
		cut(w, img.Blobs[img.Layers[0].Digest], at, 200_000)
		return true
	}
	if err := rig.Pull(reg.Host+"/app:v1", unpack.Target{Platform: amd64, Snapshotter: "overlayfs"}); err != nil {
		t.Fatal(err)
	}
	if len(from) != 4 || from[0] != 0 || from[1] == 0 || from[3] <= from[2] {
		t.Fatalf("asked from %v on", from)
	}
	data, err := os.ReadFile(filepath.Join(rig.Root, "overlayfs", "snapshots", only(t, filepath.Join(rig.Root, "overlayfs", "snapshots")), "fs", "noise"))
	if err != nil || len(data) != 1<<20 {
		t.Fatalf("the unpacked file has %d bytes: %v", len(data), err)
	}
}

// cut sends some of a body and breaks off.
func cut(w http.ResponseWriter, body []byte, from, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)-from))
	status := http.StatusOK
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	w.Write(body[from:min(from+n, len(body))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func only(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %v, %v", dir, all, err)
	}
	return all[0].Name()
}

// A pull that was cancelled is gone on with by the next one.
func TestPullResumesAfterCancel(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, amd64, noise(2, 1<<20))
	reg.Put("app", "v1", img)
	ctx, cancel := context.WithCancel(rig.Ctx)
	var ranges []string
	var mu sync.Mutex
	sent := make(chan struct{})
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, img.Layers[0].Digest.String()) {
			return false
		}
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		first := len(ranges) == 1
		mu.Unlock()
		if !first {
			return false
		}
		body := img.Blobs[img.Layers[0].Digest]
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body[:600_000])
		w.(http.Flusher).Flush()
		close(sent)
		<-r.Context().Done()
		return true
	}
	go func() {
		<-sent
		for { // until the bytes have arrived in the store
			all, _ := rig.Content.ListStatuses(rig.Ctx)
			if len(all) == 1 && all[0].Offset >= 256<<10 {
				cancel()
				return
			}
		}
	}()
	ref := reg.Host + "/app:v1"
	err := rig.Transfer(ctx, transfer.Registry{Reference: ref}, transfer.Store{Name: ref}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := rig.Pull(ref); err != nil {
		t.Fatal(err)
	}
	if len(ranges) != 2 || !strings.HasPrefix(ranges[1], "bytes=") || ranges[1] == "bytes=0-" {
		t.Fatalf("asked for %q", ranges)
	}
}

// Bytes with a wrong digest are no start for the next pull.
func TestPullAfterWrongBytes(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := small(t, "a")
	reg.Put("app", "v1", img)
	var n atomic.Int64
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, img.Layers[0].Digest.String()) && n.Add(1) == 1 {
			w.Write(make([]byte, img.Layers[0].Size))
			return true
		}
		return false
	}
	if err := rig.Pull(reg.Host + "/app:v1"); !errdefs.IsDataLoss(err) {
		t.Fatal(err)
	}
	if err := rig.Pull(reg.Host + "/app:v1"); err != nil {
		t.Fatalf("a second pull, with good bytes: %v", err)
	}
}

// The limit holds over all pulls, and two pulls of one image share the work.
func TestPullLimits(t *testing.T) {
	cfg := imagerig.Config{Pull: pull.Config{MaxDownloads: 2}, Push: push.DefaultConfig(), Archive: archive.DefaultConfig(), Unpack: unpack.DefaultConfig()}
	rig, reg := imagerig.NewWith(t, cfg), imagerig.NewRegistry(t)
	var now, most atomic.Int64
	reg.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		n := now.Add(1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		go func() { <-r.Context().Done(); now.Add(-1) }()
		return false
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 4 {
		img := small(t, fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i))
		repo := fmt.Sprint("app", i)
		reg.Put(repo, "v1", img)
		for range 2 {
			wg.Go(func() { errs <- rig.Pull(reg.Host + "/" + repo + ":v1") })
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Configs are fetched beside the layers' limit, one for each pull.
	if most.Load() > 2+4 {
		t.Fatalf("%d downloads at once", most.Load())
	}
	if n := len(reg.Requests("GET")) - 8; n > 4*(3+1) {
		t.Fatalf("%d blobs were fetched, there are 16", n)
	}
}

// An image may have one layer twice, also where only one is fetched at a time.
func TestPullSameLayerTwice(t *testing.T) {
	needRoot(t)
	cfg := imagerig.Config{Pull: pull.Config{MaxDownloads: 1}, Push: push.DefaultConfig(), Archive: archive.DefaultConfig(), Unpack: unpack.DefaultConfig()}
	for _, ss := range []string{"overlayfs", "native"} {
		rig, reg := imagerig.NewWith(t, cfg), imagerig.NewRegistry(t)
		reg.Put("app", "v1", small(t, "a", "b", "a", "a"))
		if err := rig.Pull(reg.Host+"/app:v1", unpack.Target{Platform: amd64, Snapshotter: ss}); err != nil {
			t.Fatal(err)
		}
		if n := len(rig.Chains(ss)); n != 4 {
			t.Fatalf("%s: %d snapshots, want 4", ss, n)
		}
		if n := len(reg.Requests("GET /v2/app/blobs/")); n != 3 {
			t.Fatalf("%s: %d blobs are fetched, want 3", ss, n)
		}
	}
}
