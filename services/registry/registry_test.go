package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/registry"
)

// rig is a registry over a real store.
type rig struct {
	t    *testing.T
	dir  string
	db   *metadata.DB
	reg  *registry.Registry
	http *httptest.Server
}

func newRig(t *testing.T, cfg registry.Config, auth registry.Authorizer) *rig {
	r := &rig{t: t, dir: t.TempDir()}
	r.start(cfg, auth)
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start(cfg registry.Config, auth registry.Authorizer) {
	blobs, err := local.Open(filepath.Join(r.dir, "content"))
	if err != nil {
		r.t.Fatal(err)
	}
	if r.db, err = metadata.Open(filepath.Join(r.dir, "meta.db"), metadata.DefaultConfig(), metadata.Backends{Content: blobs}); err != nil {
		r.t.Fatal(err)
	}
	r.reg, err = registry.New(cfg, registry.Parts{Blobs: r.db.Content(), Catalog: r.db.Registry(), Leases: r.db.Leases(), Namespace: metadata.RegistryNamespace}, auth)
	if err != nil {
		r.t.Fatal(err)
	}
	r.http = httptest.NewServer(r.reg.Handler())
}

func (r *rig) stop() {
	r.http.Close()
	r.reg.Close()
	r.db.Close()
}

// answer is what came back.
type answer struct {
	*http.Response
	body string
}

// do makes a request; headers are key, value, ….
func (r *rig) do(method, path, body string, headers ...string) answer {
	r.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = r.http.URL + path
	}
	req, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp, string(data)}
}

// want fails unless the status is as expected and the body has the text.
func (r *rig) want(a answer, status int, text string) answer {
	r.t.Helper()
	if a.StatusCode != status || !strings.Contains(a.body, text) {
		r.t.Fatalf("%s %s: status %d, body %q; want %d, %q", a.Request.Method, a.Request.URL, a.StatusCode, a.body, status, text)
	}
	return a
}

func (r *rig) push(repo, data string) digest.Digest {
	r.t.Helper()
	d := digest.FromString(data)
	r.want(r.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), data), 201, "")
	return d
}

// image pushes a small image and returns its digest.
func (r *rig) image(repo, tag, text string) digest.Digest {
	r.t.Helper()
	config, layer := r.push(repo, "config of "+text), r.push(repo, text)
	body := manifest(config, layer)
	r.want(r.do("PUT", "/v2/"+repo+"/manifests/"+tag, body, "Content-Type", ocispec.MediaTypeImageManifest), 201, "")
	return digest.FromString(body)
}

func manifest(config digest.Digest, layers ...digest.Digest) string {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config, Size: 1}}
	m.SchemaVersion = 2
	for _, l := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l, Size: 1})
	}
	data, _ := json.Marshal(m)
	return string(data)
}

func TestPushAndPull(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	d := r.image("team/app", "1", "hello")
	got := r.want(r.do("GET", "/v2/team/app/manifests/1", ""), 200, ocispec.MediaTypeImageManifest)
	if got.Header.Get("Docker-Content-Digest") != d.String() || got.Header.Get("Content-Type") != ocispec.MediaTypeImageManifest {
		t.Errorf("headers %v", got.Header)
	}
	layer := digest.FromString("hello")
	r.want(r.do("GET", "/v2/team/app/blobs/"+layer.String(), ""), 200, "hello")
	r.want(r.do("GET", "/v2/team/app/blobs/"+layer.String(), "", "Range", "bytes=1-2"), 206, "el")
	r.want(r.do("GET", "/v2/team/app/blobs/"+layer.String(), "", "Range", "bytes=9-"), 416, "")
	r.want(r.do("HEAD", "/v2/other/app/blobs/"+layer.String(), ""), 404, "")
	r.want(r.do("GET", "/v2/_catalog", ""), 200, `{"repositories":["team/app"]}`)
	r.want(r.do("DELETE", "/v2/team/app/manifests/"+d.String(), ""), 202, "")
	r.want(r.do("GET", "/v2/team/app/manifests/1", ""), 404, "MANIFEST_UNKNOWN")
}

func TestChunksComeInOrder(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	at := r.want(r.do("POST", "/v2/a/blobs/uploads/", ""), 202, "").Header.Get("Location")
	r.want(r.do("PATCH", at, "hello ", "Content-Range", "0-5"), 202, "")
	r.want(r.do("PATCH", at, "world", "Content-Range", "9-13"), 416, "the upload stands at 6")
	r.want(r.do("PATCH", at, "world", "Content-Range", "odd"), 400, "no range")
	if st := r.want(r.do("GET", at, ""), 204, ""); st.Header.Get("Range") != "0-5" {
		t.Errorf("range %q", st.Header.Get("Range"))
	}
	r.stop() // an upload survives the daemon
	r.start(registry.Config{}, nil)
	d := digest.FromString("hello world")
	r.want(r.do("PUT", at+"?digest="+digest.FromString("else").String(), "world", "Content-Range", "6-10"), 400, "DIGEST_INVALID")
	r.want(r.do("PUT", at+"?digest="+d.String(), ""), 201, "")
	r.want(r.do("GET", "/v2/a/blobs/"+d.String(), ""), 200, "hello world")
	r.want(r.do("GET", at, ""), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestSHA512(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	d := digest.SHA512.FromString("long")
	r.want(r.do("POST", "/v2/a/blobs/uploads/?digest="+d.String(), "long"), 201, "")
	r.want(r.do("GET", "/v2/a/blobs/"+d.String(), ""), 200, "long")
}

// Attacks: each was a hole in some registry.
func TestAttacks(t *testing.T) {
	r := newRig(t, registry.Config{MaxManifest: 4096, MaxBlob: 100}, nil)
	at := r.want(r.do("POST", "/v2/mine/blobs/uploads/", ""), 202, "").Header.Get("Location")
	id := at[strings.LastIndex(at, "/")+1:]
	d := digest.FromString("x").String()
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		text                     string
	}{
		{"parent folder", "GET", "/v2/a/%2e%2e/b/manifests/1", "", 400, "NAME_INVALID"},
		{"capitals", "GET", "/v2/A/manifests/1", "", 400, "NAME_INVALID"},
		{"upload of another repository", "PATCH", "/v2/yours/blobs/uploads/" + id, "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"path as upload", "PATCH", "/v2/mine/blobs/uploads/..", "x", 404, ""},
		{"digest that is none", "GET", "/v2/mine/blobs/sha256:zz", "", 400, "DIGEST_INVALID"},
		{"unknown algorithm", "GET", "/v2/mine/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "", 400, "DIGEST_INVALID"},
		{"mount from a repository that lacks it", "POST", "/v2/mine/blobs/uploads/?from=yours&mount=" + d, "", 202, ""},
		{"mount from a path", "POST", "/v2/mine/blobs/uploads/?from=../yours&mount=" + d, "", 400, "NAME_INVALID"},
		{"huge blob", "POST", "/v2/mine/blobs/uploads/?digest=" + d, strings.Repeat("x", 101), 413, "SIZE_INVALID"},
		{"huge manifest", "PUT", "/v2/mine/manifests/1", strings.Repeat(" ", 5000), 413, "SIZE_INVALID"},
		{"huge page", "GET", "/v2/_catalog?n=99999999999999999999", "", 400, "UNSUPPORTED"},
		{"negative page", "GET", "/v2/_catalog?n=-1", "", 400, "UNSUPPORTED"},
		{"manifest of missing blobs", "PUT", "/v2/mine/manifests/1", manifest(digest.FromString("no")), 404, "MANIFEST_BLOB_UNKNOWN"},
		{"manifest without digests", "PUT", "/v2/mine/manifests/1", `{"schemaVersion":2,"layers":[{}]}`, 400, "MANIFEST_INVALID"},
		{"image and index at once", "PUT", "/v2/mine/manifests/1", `{"schemaVersion":2,"config":{},"manifests":[{}]}`, 400, "MANIFEST_INVALID"},
		{"type confusion", "PUT", "/v2/mine/manifests/1", `{"mediaType":"application/vnd.oci.image.index.v1+json"}`, 400, "MANIFEST_INVALID"},
		{"manifest under another's digest", "PUT", "/v2/mine/manifests/" + d, manifest(digest.FromString("no")), 400, "DIGEST_INVALID"},
		{"bad tag", "PUT", "/v2/mine/manifests/-x", "{}", 400, "TAG_INVALID"},
		{"unknown method", "TRACE", "/v2/mine/tags/list", "", 405, "UNSUPPORTED"},
	} {
		a := r.do(c.method, c.path, c.body, "Content-Type", ocispec.MediaTypeImageManifest)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.text) {
			t.Errorf("%s: status %d, %s; want %d, %s", c.name, a.StatusCode, a.body, c.status, c.text)
		}
	}
}

func TestPages(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	for i := range 5 {
		r.image("a", fmt.Sprintf("v%d", i), "same")
	}
	var got []string
	for path := "/v2/a/tags/list?n=2"; path != ""; {
		a := r.want(r.do("GET", path, ""), 200, "")
		var list struct{ Tags []string }
		if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Tags) > 2 {
			t.Fatalf("%v: %s", err, a.body)
		}
		got = append(got, list.Tags...)
		path, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	}
	if strings.Join(got, " ") != "v0 v1 v2 v3 v4" {
		t.Errorf("tags %v", got)
	}
	r.want(r.do("GET", "/v2/a/tags/list?n=0", ""), 200, `"tags":[]`)
	r.want(r.do("GET", "/v2/nosuch/tags/list", ""), 404, "NAME_UNKNOWN")
}

func TestReferrers(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	subject := r.image("a", "1", "app")
	config := r.push("a", "{}")
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x-sbom","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":1},"annotations":{"a":"b"}}`,
		ocispec.MediaTypeImageManifest, config, ocispec.MediaTypeImageManifest, subject)
	d := digest.FromString(body)
	put := r.want(r.do("PUT", "/v2/a/manifests/"+d.String(), body, "Content-Type", ocispec.MediaTypeImageManifest), 201, "")
	if put.Header.Get("OCI-Subject") != subject.String() {
		t.Errorf("OCI-Subject %q", put.Header.Get("OCI-Subject"))
	}
	r.want(r.do("GET", "/v2/a/referrers/"+subject.String(), ""), 200, `"artifactType":"application/x-sbom"`)
	none := r.want(r.do("GET", "/v2/a/referrers/"+subject.String()+"?artifactType=x/y", ""), 200, `"manifests":[]`)
	if none.Header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Error("the filter isn't told")
	}
	r.want(r.do("DELETE", "/v2/a/manifests/"+d.String(), ""), 202, "")
	r.want(r.do("GET", "/v2/a/referrers/"+subject.String(), ""), 200, `"manifests":[]`)
}

// What no manifest needs goes after the grace, what is needed stays, and the
// collector takes the bytes of what no repository has any more.
func TestCollection(t *testing.T) {
	r := newRig(t, registry.Config{Grace: time.Hour}, nil)
	d := r.image("a", "1", "kept")
	r.image("b", "1", "kept")
	stray := r.push("a", "stray")
	ctx := namespaces.With(context.Background(), metadata.RegistryNamespace)
	if n, err := r.db.Registry().Expire(ctx, time.Now().Add(-time.Minute), 100); err != nil || n != 0 {
		t.Fatalf("the young went: %d, %v", n, err)
	}
	if n, err := r.db.Registry().Expire(ctx, time.Now().Add(time.Minute), 100); err != nil || n != 1 {
		t.Fatalf("%d went, %v", n, err)
	}
	collect := func() {
		t.Helper()
		if _, err := r.db.Collect(ctx); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	r.want(r.do("GET", "/v2/a/blobs/"+stray.String(), ""), 404, "")
	if _, err := r.db.Content().Info(ctx, stray); err == nil {
		t.Error("the stray blob's bytes stay")
	}
	r.want(r.do("DELETE", "/v2/a/manifests/"+d.String(), ""), 202, "")
	layer := digest.FromString("kept")
	if _, err := r.db.Registry().Expire(ctx, time.Now().Add(time.Minute), 100); err != nil {
		t.Fatal(err)
	}
	collect()
	r.want(r.do("GET", "/v2/a/blobs/"+layer.String(), ""), 404, "")
	r.want(r.do("GET", "/v2/b/blobs/"+layer.String(), ""), 200, "kept")
	r.want(r.do("GET", "/v2/b/manifests/1", ""), 200, "")
}

// A blob that another door of the daemon has is linked without its bytes, for those
// who may push; one that a repository has deleted is not.
func TestSharedWithTheDaemon(t *testing.T) {
	r := newRig(t, registry.Config{Shared: true}, nil)
	ctx := namespaces.With(context.Background(), "default")
	d := digest.FromString("of the image store")
	write(t, r.db, ctx, "of the image store")
	r.want(r.do("HEAD", "/v2/a/blobs/"+d.String(), ""), 200, "")
	r.want(r.do("POST", "/v2/b/blobs/uploads/?mount="+d.String(), ""), 201, "")
	r.want(r.do("DELETE", "/v2/a/blobs/"+d.String(), ""), 202, "")
	r.want(r.do("HEAD", "/v2/a/blobs/"+d.String(), ""), 404, "")
	alone := newRig(t, registry.Config{}, nil)
	write(t, alone.db, ctx, "of the image store")
	alone.want(alone.do("HEAD", "/v2/a/blobs/"+d.String(), ""), 404, "")
	alone.want(alone.do("POST", "/v2/b/blobs/uploads/?mount="+d.String(), ""), 202, "")
}

func write(t *testing.T, db *metadata.DB, ctx context.Context, text string) {
	t.Helper()
	w, err := db.Content().Writer(ctx, content.WriterOptions{Ref: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, 0, "", nil); err != nil {
		t.Fatal(err)
	}
}
