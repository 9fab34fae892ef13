package imagerig

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is a small OCI registry in this process, which a test can make do
// anything but what it should. Its fields are set before the first request.
type Registry struct {
	*httptest.Server
	// Host is its name in references.
	Host string
	// Before, where set, may answer a request itself, and then returns true.
	Before func(w http.ResponseWriter, r *http.Request) bool
	// Token, where set, must come as a bearer token; Realm is where it is said
	// to be had.
	Token, Realm string
	// Password, where set, must come by basic authentication, from "user".
	Password string
	// MaxUpload, where set, is the most that one request may upload.
	MaxUpload int64

	mu        sync.Mutex
	blobs     map[string]map[digest.Digest][]byte // by repository
	manifests map[string]map[string]stored
	uploads   map[string][]byte
	log       []string
}

type stored struct {
	mediaType string
	body      []byte
}

// NewRegistry starts a registry on loopback that ends with the test.
func NewRegistry(t testing.TB) *Registry {
	r := &Registry{blobs: map[string]map[digest.Digest][]byte{}, manifests: map[string]map[string]stored{}, uploads: map[string][]byte{}}
	r.Server = httptest.NewServer(r)
	r.Host = strings.TrimPrefix(r.URL, "http://")
	t.Cleanup(r.Close)
	return r
}

// PutBlob adds a blob.
func (r *Registry) PutBlob(repo string, body []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs[repo] == nil {
		r.blobs[repo] = map[digest.Digest][]byte{}
	}
	d := digest.FromBytes(body)
	r.blobs[repo][d] = body
	return d
}

// PutManifest adds a manifest under its digest and a tag.
func (r *Registry) PutManifest(repo, tag, mediaType string, body []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.manifests[repo] == nil {
		r.manifests[repo] = map[string]stored{}
	}
	d := digest.FromBytes(body)
	for _, name := range []string{d.String(), tag} {
		if name != "" {
			r.manifests[repo][name] = stored{mediaType, body}
		}
	}
	return d
}

// Put adds a whole image under a tag.
func (r *Registry) Put(repo, tag string, img Image) {
	for _, body := range img.Blobs {
		r.PutBlob(repo, body)
	}
	for _, m := range img.Manifests {
		name := ""
		if m.Desc.Digest == img.Target.Digest {
			name = tag
		}
		r.PutManifest(repo, name, m.Desc.MediaType, m.Body)
	}
}

// Manifest returns what a tag points at, and whether there is such.
func (r *Registry) Manifest(repo, name string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.manifests[repo][name]
	return m.body, ok
}

// Blob returns a blob.
func (r *Registry) Blob(repo string, d digest.Digest) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blobs[repo][d]
	return b, ok
}

// Requests are those that began so, "METHOD /path", in order.
func (r *Registry) Requests(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, l := range r.log {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.log = append(r.log, req.Method+" "+req.URL.RequestURI())
	r.mu.Unlock()
	if r.Before != nil && r.Before(w, req) {
		return
	}
	r.Handle(w, req)
}

// Handle answers as a registry does.
func (r *Registry) Handle(w http.ResponseWriter, req *http.Request) {
	if !r.allowed(w, req) {
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if repo, name, ok := strings.Cut(path, "/manifests/"); ok {
		r.manifest(w, req, repo, name)
	} else if repo, id, ok := strings.Cut(path, "/blobs/uploads/"); ok {
		r.upload(w, req, repo, id)
	} else if repo, d, ok := strings.Cut(path, "/blobs/"); ok {
		r.blob(w, req, repo, digest.Digest(d))
	} else {
		http.NotFound(w, req)
	}
}

func (r *Registry) allowed(w http.ResponseWriter, req *http.Request) bool {
	switch {
	case r.Token != "" && req.Header.Get("Authorization") != "Bearer "+r.Token:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope="x"`, r.Realm))
	case r.Password != "":
		if _, pass, _ := req.BasicAuth(); pass == r.Password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	default:
		return true
	}
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"log in first"}]}`, http.StatusUnauthorized)
	return false
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, repo, name string) {
	if req.Method == http.MethodPut {
		body, _ := io.ReadAll(req.Body)
		tag := name
		if digest.Digest(name).Validate() == nil {
			tag = ""
		}
		d := r.PutManifest(repo, tag, req.Header.Get("Content-Type"), body)
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
		return
	}
	r.mu.Lock()
	m, ok := r.manifests[repo][name]
	r.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.body).String())
	w.Header().Set("Content-Length", strconv.Itoa(len(m.body)))
	if req.Method != http.MethodHead {
		w.Write(m.body)
	}
}

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, repo string, d digest.Digest) {
	body, ok := r.Blob(repo, d)
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	var from int
	if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); err == nil && from < len(body) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)-from))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(body[from:])
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if req.Method != http.MethodHead {
		w.Write(body)
	}
}

func (r *Registry) upload(w http.ResponseWriter, req *http.Request, repo, id string) {
	if req.Method == http.MethodPost {
		r.begin(w, req, repo)
		return
	}
	r.mu.Lock()
	have, ok := r.uploads[id]
	r.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	switch req.Method {
	case http.MethodGet:
		r.session(w, repo, id, len(have), http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		r.take(w, req, repo, id)
	}
}

func (r *Registry) begin(w http.ResponseWriter, req *http.Request, repo string) {
	q := req.URL.Query()
	if body, ok := r.Blob(q.Get("from"), digest.Digest(q.Get("mount"))); ok {
		r.PutBlob(repo, body)
		w.WriteHeader(http.StatusCreated)
		return
	}
	id := rand.Text()
	r.mu.Lock()
	r.uploads[id] = []byte{}
	r.mu.Unlock()
	r.session(w, repo, id, 0, http.StatusAccepted)
}

func (r *Registry) session(w http.ResponseWriter, repo, id string, have, status int) {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?"+url.Values{"state": {strconv.Itoa(have)}}.Encode())
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(have-1, 0)))
	w.WriteHeader(status)
}

func (r *Registry) take(w http.ResponseWriter, req *http.Request, repo, id string) {
	if r.MaxUpload > 0 && req.ContentLength > r.MaxUpload {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	r.mu.Lock()
	have := r.uploads[id]
	r.mu.Unlock()
	var from, to int
	if _, err := fmt.Sscanf(req.Header.Get("Content-Range"), "%d-%d", &from, &to); err == nil && from != len(have) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	more, err := io.ReadAll(req.Body)
	have = append(have, more...)
	r.mu.Lock()
	r.uploads[id] = have // also what came before the line was cut
	r.mu.Unlock()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if req.Method == http.MethodPatch {
		r.session(w, repo, id, len(have), http.StatusAccepted)
		return
	}
	if digest.FromBytes(have).String() != req.URL.Query().Get("digest") {
		http.Error(w, "digest", http.StatusBadRequest)
		return
	}
	r.PutBlob(repo, have)
	w.WriteHeader(http.StatusCreated)
}

// Descriptor describes bytes.
func Descriptor(mediaType string, body []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
}
