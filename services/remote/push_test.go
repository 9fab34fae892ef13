package remote_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/test/imagerig"
)

func bytesOf(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func pusher(t *testing.T, reg *imagerig.Registry, cfg remote.Config) *remote.Pusher {
	t.Helper()
	ref, err := remote.ParseReference(reg.Host + "/to/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := remote.New(cfg).Pusher(ref)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func send(p *remote.Pusher, body []byte, from string) (bool, error) {
	return p.Blob(context.Background(), imagerig.Descriptor("", body), from, func(offset, n int64) io.Reader {
		return bytes.NewReader(body[offset : offset+n])
	})
}

func arrived(t *testing.T, reg *imagerig.Registry, body []byte) {
	t.Helper()
	if got, ok := reg.Blob("to/app", imagerig.Descriptor("", body).Digest); !ok || !bytes.Equal(got, body) {
		t.Fatalf("the registry has %d bytes of %d; it was asked %q", len(got), len(body), reg.Requests(""))
	}
}

func TestPushWhole(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	p, body := pusher(t, reg, remote.Config{}), bytesOf(1<<20)
	if has, err := p.Has(context.Background(), imagerig.Descriptor("", body), ""); err != nil || has {
		t.Fatalf("before: %v, %v", has, err)
	}
	if mounted, err := send(p, body, ""); err != nil || mounted {
		t.Fatalf("mounted %v, %v", mounted, err)
	}
	arrived(t, reg, body)
	if has, err := p.Has(context.Background(), imagerig.Descriptor("", body), ""); err != nil || !has {
		t.Fatalf("after: %v, %v", has, err)
	}
	if n := len(reg.Requests("PATCH")); n != 0 {
		t.Fatalf("%d chunks for a registry that takes all at once", n)
	}
}

func TestPushMounts(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	p, body := pusher(t, reg, remote.Config{}), bytesOf(1000)
	reg.PutBlob("from/base", body)
	if mounted, err := send(p, body, "from/base"); err != nil || !mounted {
		t.Fatalf("mounted %v, %v", mounted, err)
	}
	arrived(t, reg, body)
	other := bytesOf(1000)
	if mounted, err := send(p, other, "from/base"); err != nil || mounted {
		t.Fatalf("a blob that isn't there: mounted %v, %v", mounted, err)
	}
	arrived(t, reg, other)
}

// A registry that doesn't take the blob whole gets it in chunks.
func TestPushChunks(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	reg.MaxUpload = 20 << 20
	p, body := pusher(t, reg, remote.Config{}), bytesOf(40<<20)
	if _, err := send(p, body, ""); err != nil {
		t.Fatal(err)
	}
	arrived(t, reg, body)
	if n := len(reg.Requests("PATCH")); n != 3 {
		t.Fatalf("%d chunks, want 3", n)
	}
}

// A line that is cut in the middle of an upload costs what was not sent, only.
func TestPushResumes(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	body := bytesOf(24 << 20)
	var cut, got atomic.Int64
	reg.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && cut.Add(1) == 1 {
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 10<<20), failing{}))
		}
		if r.Method == http.MethodPatch {
			got.Add(r.ContentLength)
		}
		return false
	}
	p := pusher(t, reg, remote.Config{})
	if _, err := send(p, body, ""); err != nil {
		t.Fatal(err)
	}
	arrived(t, reg, body)
	if n := got.Load(); n != 14<<20 {
		t.Fatalf("%d bytes were sent after the cut, want %d", n, 14<<20)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A session that the registry has forgotten is begun anew.
func TestPushForgottenSession(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	var n atomic.Int64
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && n.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	p, body := pusher(t, reg, remote.Config{}), bytesOf(5000)
	if _, err := send(p, body, ""); err != nil {
		t.Fatal(err)
	}
	arrived(t, reg, body)
}

// Nonsense about sessions ends in an error, soon.
func TestPushNonsense(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"no location": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"location of file": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(202)
		},
		"huge chunks": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/v2/x")
			w.Header().Set("OCI-Chunk-Min-Length", "99999999999")
			w.WriteHeader(202)
		},
		"created without bytes": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) },
		"teapot":                func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := imagerig.NewRegistry(t)
			reg.Before = func(w http.ResponseWriter, r *http.Request) bool { answer(w, r); return true }
			if _, err := send(pusher(t, reg, remote.Config{}), bytesOf(100), ""); err == nil {
				t.Fatal("it succeeded")
			}
		})
	}
}

// A registry that takes no bytes is given up.
func TestPushStalls(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/v2/x")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		<-release // and never read
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	ref, _ := remote.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/to/app")
	p, err := remote.New(remote.Config{StallTimeout: 20 * time.Millisecond}).Pusher(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send(p, bytesOf(64<<20), ""); !errdefs.IsUnavailable(err) {
		t.Fatal(err)
	}
}

func TestPushManifest(t *testing.T) {
	reg := imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, imagerig.Linux("amd64"))
	p := pusher(t, reg, remote.Config{})
	if err := p.Manifest(context.Background(), img.Target, img.Manifests[0].Body, "v1"); err != nil {
		t.Fatal(err)
	}
	if has, err := p.Has(context.Background(), img.Target, "v1"); err != nil || !has {
		t.Fatalf("%v, %v", has, err)
	}
	other := imagerig.NewImage(t, imagerig.Linux("arm64"))
	if has, err := p.Has(context.Background(), other.Target, "v1"); err != nil || has {
		t.Fatalf("the tag points elsewhere: %v, %v", has, err)
	}
}
