package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/search", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"results":[{"name":%q,"description":"it","star_count":7,"is_official":true},{"name":"b"}]}`, r.FormValue("q")+"/"+r.FormValue("n"))
	})
	found, err := search(t, mux, "box", 1)
	if err != nil || len(found) != 1 || found[0] != (Found{"box/1", "it", 7, true}) {
		t.Errorf("got %v, %v", found, err)
	}
}

// A registry without a search is asked for its catalog, page by page.
func TestSearchCatalog(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/_catalog", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("last") == "" {
			w.Header().Set("Link", `</v2/_catalog?last=b&n=1000>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a/box","b"]}`)
			return
		}
		fmt.Fprint(w, `{"repositories":["boxes","c"]}`)
	})
	found, err := search(t, mux, "box", 25)
	if err != nil || len(found) != 2 || found[0].Name != "a/box" || found[1].Name != "boxes" {
		t.Errorf("got %v, %v", found, err)
	}
	if found, err = search(t, mux, "box", 1); err != nil || len(found) != 1 {
		t.Errorf("got %v, %v with a limit of 1", found, err)
	}
}

// Neither may make us read for ever.
func TestSearchBounds(t *testing.T) {
	asked := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/_catalog", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Link", `</v2/_catalog?last=b>; rel="next"`)
		fmt.Fprint(w, `{"repositories":["b"]}`)
	})
	if found, err := search(t, mux, "box", 25); err != nil || len(found) != 0 || asked != maxPages {
		t.Errorf("got %v, %v after %d pages", found, err, asked)
	}
	mux = http.NewServeMux()
	mux.HandleFunc("GET /v2/_catalog", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"repositories":["`, strings.Repeat("x", maxFound), `"]}`)
	})
	if _, err := search(t, mux, "box", 25); err == nil {
		t.Error("an endless answer was taken")
	}
	if _, err := search(t, http.NotFoundHandler(), "box", 25); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a registry without either: %v", err)
	}
}

func search(t *testing.T, h http.Handler, term string, limit int) ([]Found, error) {
	s := httptest.NewServer(h)
	defer s.Close()
	return New(Config{}).Search(context.Background(), strings.TrimPrefix(s.URL, "http://"), term, limit)
}
