package registry

import (
	"archive/tar"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/orlop/orlop/test/s3rig"
)

// quick makes the collector and the registry forget at once.
const quick = `
[plugins."io.containerd.gc.v1.scheduler"]
schedule_delay = "10ms"
startup_delay = "10ms"
`

// noise is a file with a layer of so many MiB that don't compress.
func noise(t *testing.T, mib int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "noise", Mode: 0o644, Size: int64(mib) << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{byte(mib)}), int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// objects are the names of those below a prefix, and what is not finished there.
func objects(t *testing.T, srv *s3rig.Server, prefix string) (out []string) {
	t.Helper()
	for _, root := range []string{prefix, ".sgwtmp/multipart"} {
		err := filepath.WalkDir(srv.Path(root), func(path string, d fs.DirEntry, err error) error {
			if err == nil && (!d.IsDir() || strings.Count(strings.TrimPrefix(path, srv.Path(".sgwtmp")), "/") == 2 && root != prefix) {
				out = append(out, strings.TrimPrefix(path, srv.Path("")+"/"))
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

// holdPart holds the sending of one part until it is released.
func holdPart(srv *s3rig.Server, number string) (held <-chan struct{}, release func()) {
	reached, gone := make(chan struct{}), make(chan struct{})
	var once sync.Once
	srv.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == number {
			once.Do(func() { close(reached) })
			select {
			case <-gone:
			case <-r.Context().Done():
			}
			return
		}
		pass.ServeHTTP(w, r)
	})
	return reached, func() { srv.Set(nil); close(gone) }
}

// A registry that is killed while a layer comes in: nothing of it can be pulled, the
// same push succeeds afterwards, and then nothing else is left.
func TestKilledPush(t *testing.T) {
	srv := s3rig.Start(t)
	d := serve(t, quick+srv.TOML("r/"))
	layer := noise(t, 24)
	held, release := holdPart(srv, "3")
	pushed := make(chan bool)
	go func() {
		_, ok := crane(t, "append", "-f", layer, "-t", d.address+"/a/large:1")
		pushed <- ok
	}()
	<-held
	d.kill()
	release()
	if <-pushed {
		t.Fatal("a push succeeded to a registry that was killed")
	}
	d.start()
	if out, ok := crane(t, "manifest", d.address+"/a/large:1"); ok {
		t.Fatalf("half an image is there: %s", out)
	}
	mustCrane(t, "append", "-f", layer, "-t", d.address+"/a/large:1")
	mustCrane(t, "validate", "--remote", d.address+"/a/large:1")

	// What the killed push left goes with its ingest, which is kept a day for its client.
	d.kill()
	if err := os.RemoveAll(d.path("root/io.containerd.content.v1.s3/ingest")); err != nil {
		t.Fatal(err)
	}
	d.start()
	digest := mustCrane(t, "digest", d.address+"/a/large:1")
	mustCrane(t, "delete", d.address+"/a/large@"+digest)
	if code, _, _ := d.ask("POST", "/v2/_orlop/gc", nil); code != http.StatusOK {
		t.Fatalf("gc: %d", code)
	}
	for _, o := range objects(t, srv, "r") {
		if strings.HasPrefix(o, ".sgwtmp") || strings.Contains(o, "ingest/") {
			t.Errorf("%s is left", o)
		}
	}
}

// An upload in chunks goes on after a kill where the registry says that it stands.
func TestResumedUpload(t *testing.T) {
	srv := s3rig.Start(t)
	d := serve(t, srv.TOML("r/"))
	data := make([]byte, 12<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	resumedUpload(t, d, data)
	if srv.Seen("POST") == 0 {
		t.Error("no parts were sent")
	}
}

// Storage that is down, or fails, is a 503 for a while; afterwards all is well.
func TestStorageDown(t *testing.T) {
	srv := s3rig.Start(t)
	d := serve(t, srv.TOML("r/"))
	dir := layout(t)
	mustCrane(t, "push", dir, d.address+"/a/box:1")
	srv.Down()
	if code, _, text := d.ask("GET", "/v2/a/box/manifests/1", nil); code != http.StatusServiceUnavailable || !strings.Contains(text, "UNKNOWN") {
		t.Errorf("a pull without storage: %d %s", code, text)
	}
	if code, _, text := d.ask("PUT", "/v2/a/box/manifests/2", strings.NewReader(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	}); code != http.StatusServiceUnavailable {
		t.Errorf("a push without storage: %d %s", code, text)
	}
	// It starts without its storage, too.
	d.stop()
	d.start()
	if code, _, _ := d.ask("GET", "/v2/a/box/tags/list", nil); code != http.StatusOK {
		t.Errorf("tags: %d", code)
	}
	srv.Up()
	mustCrane(t, "validate", "--remote", d.address+"/a/box:1")
	srv.Set(s3rig.Every(4, "PUT", s3rig.Broken))
	mustCrane(t, "append", "-f", noise(t, 11), "-t", d.address+"/a/large:1")
	srv.Set(s3rig.Every(2, "GET", s3rig.Cut(3_000_000)))
	mustCrane(t, "validate", "--remote", d.address+"/a/large:1")
}

// What is deleted leaves the storage.
func TestStorageCollected(t *testing.T) {
	srv := s3rig.Start(t)
	d := serve(t, quick+srv.TOML("r/")+"\n[plugins.\"io.containerd.server.v1.registry\"]\ngrace = \"1s\"\n")
	mustCrane(t, "append", "-f", noise(t, 11), "-t", d.address+"/a/large:1")
	if n := len(objects(t, srv, "r/blobs")); n != 3 {
		t.Fatalf("%d blobs, want layer, config and manifest", n)
	}
	digest := mustCrane(t, "digest", d.address+"/a/large:1")
	mustCrane(t, "delete", d.address+"/a/large@"+digest)
	eventually(t, "all blobs are gone", func() bool { return len(objects(t, srv, "r/blobs")) == 0 })
}

// Clients are sent to the storage if that is wanted, and can read there, but not
// everywhere.
func TestRedirect(t *testing.T) {
	srv := s3rig.Start(t)
	d := serve(t, srv.TOML("r/")+"\n[plugins.\"io.containerd.server.v1.registry\"]\nredirect = true\n")
	mustCrane(t, "append", "-f", noise(t, 11), "-t", d.address+"/a/large:1")
	mustCrane(t, "validate", "--remote", d.address+"/a/large:1")
	layer := between(mustCrane(t, "manifest", d.address+"/a/large:1"), `"layers":`, "sha256:", `"`)
	code, header, _ := d.ask("GET", "/v2/a/large/blobs/"+layer, nil)
	where := header.Get("Location")
	if code != http.StatusTemporaryRedirect || !strings.HasPrefix(where, srv.Endpoint()) {
		t.Fatalf("%d to %q", code, where)
	}
	for url, want := range map[string]int{where: http.StatusOK, strings.Split(where, "?")[0]: http.StatusForbidden} {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", url, res.StatusCode, want)
		}
	}
	if code, _, _ := d.ask("GET", "/v2/b/other/blobs/"+layer, nil); code != http.StatusNotFound {
		t.Errorf("another repository's blob: %d", code)
	}
}

// between is what follows some text, from a beginning up to an end.
func between(text, after, begin, end string) string {
	_, text, _ = strings.Cut(text, after)
	_, text, _ = strings.Cut(text, begin)
	text, _, _ = strings.Cut(text, end)
	return begin + text
}
