package security

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/test/imagerig"
)

// thief is a host that notes every header it gets which could hold a secret.
type thief struct {
	*httptest.Server
	mu     sync.Mutex
	stolen []string
	asked  int
	answer func(w http.ResponseWriter, r *http.Request)
}

func newThief(t *testing.T, tls bool) *thief {
	th := &thief{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		th.mu.Lock()
		th.asked++
		r.ParseForm()
		for k, v := range r.Header {
			if strings.Contains(strings.Join(v, ""), "s3cret") || k == "Authorization" {
				th.stolen = append(th.stolen, k+": "+strings.Join(v, ","))
			}
		}
		if strings.Contains(r.Form.Encode(), "s3cret") {
			th.stolen = append(th.stolen, r.Form.Encode())
		}
		th.mu.Unlock()
		if th.answer != nil {
			th.answer(w, r)
		}
	})
	if tls {
		th.Server = httptest.NewTLSServer(h)
	} else {
		th.Server = httptest.NewServer(h)
	}
	t.Cleanup(th.Close)
	return th
}

func (th *thief) check(t *testing.T) {
	t.Helper()
	th.mu.Lock()
	defer th.mu.Unlock()
	if len(th.stolen) > 0 {
		t.Errorf("the other host has got %q", th.stolen)
	}
}

// secrets are a registry's credentials, for whatever host asks.
func secrets(context.Context, remote.Login) (remote.Credentials, error) {
	return remote.Credentials{Username: "user", Password: "s3cret"}, nil
}

func victim(t *testing.T) imagerig.Image {
	return imagerig.NewImage(t, imagerig.Linux("amd64"), imagerig.Tar(t, imagerig.File{Name: "f", Data: []byte("f")}))
}

func from(reg *imagerig.Registry) transfer.Registry {
	return transfer.Registry{Reference: reg.Host + "/app:v1", Credentials: secrets, Header: map[string]string{"X-Private-Token": "s3cret"}}
}

// CVE-2020-15157 and its kin: a redirect takes neither credentials nor private
// headers along, also when the other host answers 401 and names a realm.
func TestRedirectGetsNoCredentials(t *testing.T) {
	for _, login := range []string{"", "Bearer", "Basic"} {
		t.Run("answers 401 "+login, func(t *testing.T) {
			rig, reg, th := imagerig.New(t), imagerig.NewRegistry(t), newThief(t, false)
			img := victim(t)
			reg.Password = "s3cret"
			reg.Put("app", "v1", img)
			th.answer = func(w http.ResponseWriter, r *http.Request) {
				if login != "" {
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s realm="%s/token",service="x"`, login, th.URL))
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Write(img.Blobs[digest.Digest(r.URL.Path[1:])])
			}
			reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
				_, name, ok := strings.Cut(r.URL.Path, "/blobs/")
				if ok && r.Header.Get("Authorization") != "" {
					http.Redirect(w, r, th.URL+"/"+name, http.StatusTemporaryRedirect)
					return true
				}
				return false
			}
			err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x"}, nil)
			if (err == nil) != (login == "") {
				t.Fatal(err)
			}
			if th.asked == 0 {
				t.Fatal("nobody was redirected: the test shows nothing")
			}
			th.check(t)
		})
	}
}

// A token realm may not be where a plain-http registry from afar says, and a TLS
// registry may not have it over plain http; nothing goes from TLS to http.
func TestRealmsAndDowngrades(t *testing.T) {
	th := newThief(t, false)
	img := victim(t)
	secure := &imagerig.Registry{Token: "x", Realm: th.URL + "/token"}
	srv := httptest.NewTLSServer(secure)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	toml := fmt.Sprintf("server = %q\nskip_verify = true\n", srv.URL)
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	rig := imagerig.New(t)
	pullIt := func() error {
		return rig.Transfer(rig.Ctx, transfer.Registry{Reference: host + "/app:v1", Credentials: secrets, HostDir: dir}, transfer.Store{Name: "x"}, nil)
	}
	if err := pullIt(); !errdefs.IsPermissionDenied(err) {
		t.Errorf("realm over http: %v", err)
	}
	if th.asked != 0 {
		t.Error("the realm over http was asked")
	}
	// skip_verify is for the registry, not for other hosts that it names.
	other := newThief(t, true)
	secure.Realm = other.URL + "/token"
	if err := pullIt(); err == nil || other.asked != 0 {
		t.Errorf("a realm whose certificate nobody signed is asked: %v", err)
	}
	other.check(t)
	secure.Token = ""
	secure.Before = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, th.URL+r.URL.Path, http.StatusFound)
		return true
	}
	if err := pullIt(); !errdefs.IsPermissionDenied(err) || th.asked != 0 {
		t.Errorf("redirect to http: %v, the other host was asked %d times", err, th.asked)
	}
	_ = img
}

// Foreign URLs in descriptors are never followed.
func TestForeignURLs(t *testing.T) {
	rig, reg, th := imagerig.New(t), imagerig.NewRegistry(t), newThief(t, false)
	img := victim(t)
	body := bytes.Replace(img.Manifests[0].Body, []byte(`"size":`+strconv.FormatInt(img.Layers[0].Size, 10)),
		fmt.Appendf(nil, `"size":%d,"urls":[%q]`, img.Layers[0].Size, th.URL+"/layer"), 1)
	if bytes.Equal(body, img.Manifests[0].Body) {
		t.Fatal("the manifest wasn't changed")
	}
	reg.PutBlob("app", img.Blobs[img.Config.Digest])
	reg.PutManifest("app", "v1", img.Target.MediaType, body)
	if err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x"}, nil); !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	if th.asked != 0 {
		t.Fatal("the foreign URL was asked")
	}
}

// An upload that the registry sends elsewhere takes no credentials along.
func TestUploadElsewhereGetsNoCredentials(t *testing.T) {
	rig, reg, th := imagerig.New(t), imagerig.NewRegistry(t), newThief(t, false)
	reg.Password = "s3cret"
	th.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) }
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && r.Header.Get("Authorization") != "" {
			w.Header().Set("Location", th.URL+"/upload")
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		return false
	}
	rig.Store("x", victim(t))
	if err := rig.Transfer(rig.Ctx, transfer.Store{Name: "x"}, from(reg), nil); err != nil {
		t.Fatal(err)
	}
	if th.asked == 0 {
		t.Fatal("nothing was uploaded there: the test shows nothing")
	}
	th.check(t)
}

// Whatever a registry sends in place of what was promised: it is an error, no image
// gets a name, and nothing wrong is stored under a digest.
func TestDigestGames(t *testing.T) {
	img := victim(t)
	layer := img.Layers[0]
	good := img.Blobs[layer.Digest]
	blobs := func(answer func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/blobs/"+layer.Digest.String()) {
				return false
			}
			answer(w)
			return true
		}
	}
	send := func(body []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.(http.Flusher).Flush() // no length is known
			w.Write(body)
		}
	}
	manifests := func(mediaType string, body []byte) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", mediaType)
			w.Write(body)
			return true
		}
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	confusion := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":1},"layers":[],"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, img.Config.Digest, ocispec.MediaTypeImageManifest, img.Target.Digest)
	for name, before := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"other bytes":           blobs(send(flipped)),
		"truncated":             blobs(send(good[:len(good)-1])),
		"over-long":             blobs(send(append(bytes.Clone(good), 'x'))),
		"empty":                 blobs(send(nil)),
		"longer than announced": blobs(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1"); w.Write(good[:1]) }),
		"endless": blobs(func(w http.ResponseWriter) {
			for chunk := make([]byte, 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}),
		"both at once":      manifests(ocispec.MediaTypeImageManifest, confusion),
		"manifest as index": manifests(ocispec.MediaTypeImageIndex, img.Manifests[0].Body),
		"manifest as layer": manifests(ocispec.MediaTypeImageLayer, []byte(`{}`)),
		"web page":          manifests("text/html", []byte("<html>")),
		"not JSON":          manifests(ocispec.MediaTypeImageManifest, []byte("{{{")),
		"null":              manifests(ocispec.MediaTypeImageManifest, []byte("null")),
		"huge":              manifests(ocispec.MediaTypeImageManifest, bytes.Repeat([]byte(" "), manifest.MaxSize+10)),
		"digest that isn't its": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", layer.Digest.String())
			return manifests(ocispec.MediaTypeImageManifest, img.Manifests[0].Body)(w, r)
		},
		"another range than asked": blobs(func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(good)-1, len(good)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(good[5:])
		}),
	} {
		t.Run(name, func(t *testing.T) {
			rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
			reg.Put("app", "v1", img)
			reg.Before = before
			peak := heapPeak(func() {
				if err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x"}, nil); err == nil {
					t.Error("it was pulled")
				}
			})
			if peak > 100<<20 {
				t.Errorf("it took %d MiB of memory", peak>>20)
			}
			if all, _ := rig.Images.List(rig.Ctx); len(all) != 0 {
				t.Errorf("images: %v", all)
			}
			if rig.Has(layer.Digest) && !strings.Contains(name, "range") {
				t.Error("the layer is stored")
			}
		})
	}
}

// Manifests by digest, and of other algorithms, are held to it.
func TestManifestByDigest(t *testing.T) {
	img := victim(t)
	for _, want := range []digest.Digest{digest.SHA512.FromBytes([]byte("other")), digest.FromBytes([]byte("other"))} {
		rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
		reg.PutManifest("app", want.String(), img.Target.MediaType, img.Manifests[0].Body)
		err := rig.Transfer(rig.Ctx, transfer.Registry{Reference: reg.Host + "/app@" + want.String()}, transfer.Store{Name: "x"}, nil)
		if !errdefs.IsDataLoss(err) {
			t.Errorf("%s: %v", want.Algorithm(), err)
		}
	}
	// The true one, by sha512.
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	reg.Put("app", "v1", img)
	good := digest.SHA512.FromBytes(img.Manifests[0].Body)
	reg.PutManifest("app", good.String(), img.Target.MediaType, img.Manifests[0].Body)
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, good.String()) {
			return false
		}
		w.Header().Set("Content-Type", img.Target.MediaType)
		w.Write(img.Manifests[0].Body)
		return true
	}
	if err := rig.Transfer(rig.Ctx, transfer.Registry{Reference: reg.Host + "/app@" + good.String()}, transfer.Store{Name: "x"}, nil); err != nil {
		t.Errorf("sha512: %v", err)
	}
}

// A registry that sends next to nothing, for ever, doesn't hold a place for ever.
func TestSlowBody(t *testing.T) {
	img := victim(t)
	reg := imagerig.NewRegistry(t)
	reg.Put("app", "v1", img)
	reg.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		for r.Context().Err() == nil {
			w.Write([]byte{0})
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
		return true
	}
	ref, err := remote.ParseReference(reg.Host + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	c := remote.New(remote.Config{StallTimeout: 50 * time.Millisecond})
	big := ocispec.Descriptor{Digest: img.Layers[0].Digest, Size: 1 << 40}
	r, err := c.Blob(context.Background(), ref, big, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 1024)
	for err == nil {
		_, err = r.Read(buf)
	}
	if !errdefs.IsUnavailable(err) {
		t.Fatal(err)
	}
}

// A layer that unpacks to more than is allowed is refused, and leaves nothing.
func TestPulledBomb(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: snapshotters set owners and attributes")
	}
	cfg := imagerig.Config{Pull: pull.DefaultConfig(), Push: push.DefaultConfig(), Archive: archive.DefaultConfig(), Unpack: unpack.Config{MaxLayerBytes: 1 << 20}}
	rig, reg := imagerig.NewWith(t, cfg), imagerig.NewRegistry(t)
	img := imagerig.NewImage(t, imagerig.Linux("amd64"), imagerig.Tar(t, imagerig.File{Name: "zeros", Data: make([]byte, 32<<20)}))
	reg.Put("app", "v1", img)
	for _, ss := range []string{"overlayfs", "native"} {
		err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x", Unpacks: []unpack.Target{{Snapshotter: ss}}}, nil)
		if !errors.Is(err, layer.ErrLimit) {
			t.Errorf("%s: %v", ss, err)
		}
		if chains := rig.Chains(ss); len(chains) != 0 {
			t.Errorf("%s has %v", ss, chains)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(rig.Root, "overlayfs", "snapshots", "*")); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

// A layer whose tar isn't what the config promises gets no snapshot.
func TestWrongDiffID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: snapshotters set owners and attributes")
	}
	for _, ss := range []string{"overlayfs", "native"} {
		rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
		img := victim(t)
		other := imagerig.NewImage(t, imagerig.Linux("amd64"), imagerig.Tar(t, imagerig.File{Name: "evil", Data: []byte("evil")}))
		body := bytes.Replace(img.Manifests[0].Body, []byte(img.Layers[0].Digest), []byte(other.Layers[0].Digest), 1)
		body = bytes.Replace(body, fmt.Appendf(nil, `"size":%d}]`, img.Layers[0].Size), fmt.Appendf(nil, `"size":%d}]`, other.Layers[0].Size), 1)
		reg.Put("app", "other", other)
		reg.Put("app", "good", img)
		reg.PutManifest("app", "v1", img.Target.MediaType, body)
		err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x", Unpacks: []unpack.Target{{Snapshotter: ss}}}, nil)
		if !errdefs.IsDataLoss(err) {
			t.Fatalf("%s: %v", ss, err)
		}
		if chains := rig.Chains(ss); len(chains) != 0 {
			t.Fatalf("%s: %v", ss, chains)
		}
	}
}

// Indexes in indexes end.
func TestDeepIndex(t *testing.T) {
	rig, reg := imagerig.New(t), imagerig.NewRegistry(t)
	img := victim(t)
	for range 20 {
		img = imagerig.NewIndex(t, []ocispec.Platform{imagerig.Linux("amd64")}, img)
	}
	reg.Put("app", "v1", img)
	if err := rig.Transfer(rig.Ctx, from(reg), transfer.Store{Name: "x"}, nil); !errdefs.IsInvalidArgument(err) {
		t.Fatal(err)
	}
}
