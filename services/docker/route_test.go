package docker

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/orlop/orlop/services/engine"
)

func TestRoutes(t *testing.T) {
	var table []route
	for _, r := range routes() {
		table = append(table, r.compile())
	}
	find := func(method, path string) (string, map[string]string) {
		for _, r := range table {
			if vars, ok := r.match(method, path); ok {
				return r.path, vars
			}
		}
		return "", nil
	}
	for request, want := range map[string][2]string{
		"GET /images/json":                     {"/images/json", ""},
		"GET /images/127.0.0.1:5/a/b:c/json":   {"/images/{name...}/json", "127.0.0.1:5/a/b:c"},
		"DELETE /images/a/b@sha256:0":          {"/images/{name...}", "a/b@sha256:0"},
		"GET /images/get":                      {"/images/get", ""},
		"POST /images/a/push":                  {"/images/{name...}/push", "a"},
		"GET /containers/json":                 {"/containers/json", ""},
		"GET /containers/a/json":               {"/containers/{id}/json", "a"},
		"GET /containers/a/b/json":             {"", ""},
		"PUT /containers/json":                 {"", ""},
		"POST /exec/0/start":                   {"/exec/{id}/start", "0"},
		"GET /distribution/docker.io/box/json": {"/distribution/{name...}/json", "docker.io/box"},
	} {
		method, path, _ := strings.Cut(request, " ")
		got, vars := find(method, path)
		if got != want[0] || vars["name"]+vars["id"] != want[1] {
			t.Errorf("%s: got %q, %v", request, got, vars)
		}
	}
}

func TestFiltersInBothForms(t *testing.T) {
	for text, want := range map[string]engine.Filters{
		`{"label":["a=b"]}`:                {"label": {"a=b"}},
		`{"label":{"a=b":true,"c":false}}`: {"label": {"a=b"}},
		``:                                 {},
	} {
		r := httptest.NewRequest(http.MethodGet, "/x?filters="+url.QueryEscape(text), nil)
		got, err := (&call{r: r}).filters()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{`[]`, `{"a":1}`, `{`, `{"a":["b"]}x`} {
		r := httptest.NewRequest(http.MethodGet, "/x?filters="+url.QueryEscape(text), nil)
		if _, err := (&call{r: r}).filters(); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestVersions(t *testing.T) {
	for text, ok := range map[string]bool{"1.24": true, "1.55": true, "1.23": false, "1.56": false, "2.0": false, "1.999": false} {
		v, parsed := parseVersion(text)
		if err := checkVersion(text, v, parsed); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
