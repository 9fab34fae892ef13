package registry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/registry"
)

func TestPagesForPeople(t *testing.T) {
	r := newRig(t, registry.Config{}, nil)
	d := r.image("team/app", "v1", "hello")
	evil := r.push("evil", "x")
	r.want(r.do("PUT", "/v2/evil/manifests/1", `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","layers":[{"mediaType":"<script>alert(1)</script>","digest":"`+evil.String()+`","size":1}]}`,
		"Content-Type", ocispec.MediaTypeImageManifest), 201, "")
	ui := httptest.NewServer(r.reg.Pages())
	defer ui.Close()
	first := r.want(r.do("GET", ui.URL+"/ui/", ""), 200, `<a href="/ui/team/app">team/app</a>`)
	if csp := first.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
	r.want(r.do("GET", ui.URL+"/ui/team/app", ""), 200, `<a href="/ui/team/app@`+d.String()+`">`)
	r.want(r.do("GET", ui.URL+"/ui/team/app@"+d.String(), ""), 200, "<h2>Layers</h2>")
	r.want(r.do("GET", ui.URL+"/ui/style.css", ""), 200, "border-collapse")
	r.want(r.do("GET", ui.URL+"/ui/no/such", ""), 404, "")
	r.want(r.do("GET", ui.URL+"/ui/<b>", ""), 400, "")
	r.want(r.do("POST", ui.URL+"/ui/", ""), 405, "")
	tag := r.want(r.do("GET", "/v2/evil/manifests/1", ""), 200, "").Header.Get("Docker-Content-Digest")
	if got := r.want(r.do("GET", ui.URL+"/ui/evil@"+tag, ""), 200, "&lt;script&gt;"); strings.Contains(got.body, "<script") {
		t.Errorf("a script gets through: %s", got.body)
	}
	closed := newRig(t, registry.Config{}, nobody{})
	w := httptest.NewRecorder()
	closed.reg.Pages().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ui/", nil))
	if w.Code != 401 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
}

// nobody may do nothing.
type nobody struct{}

func (nobody) Authorize(*http.Request, ...registry.Access) (registry.Identity, error) {
	return registry.Identity{}, registry.Unauthorized("Bearer realm=x", "log in")
}
