package docker

import (
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/registry"
)

// How many results a search has if nothing is said, and at most.
const (
	searchResults = 25
	mostResults   = 100
)

func searchImages(s *Server, c *call) error {
	limit := searchResults
	if text := c.query("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return badRequest("invalid limit %q: it is a number", text)
		}
		if n != 0 { // clients send it where nothing is said
			limit = n
		}
	}
	if limit < 1 || limit > mostResults {
		return badRequest("limit %d is outside the range of [1, %d]", limit, mostResults)
	}
	if c.query("term") == "" {
		return badRequest("a search needs a term")
	}
	match, err := c.searchFilter()
	if err != nil {
		return err
	}
	found, err := s.engine.Search(c.r.Context(), c.query("term"), limit, c.credentials())
	if err != nil {
		return err
	}
	out := []registry.SearchResult{}
	for _, f := range found {
		r := registry.SearchResult{Name: f.Name, Description: f.Description, StarCount: f.Stars, IsOfficial: f.Official}
		if match(r) {
			out = append(out, r)
		}
	}
	return c.send(http.StatusOK, out)
}

// searchFilter reads the filters is-official, is-automated and stars.
func (c *call) searchFilter() (func(registry.SearchResult) bool, error) {
	f, err := c.filters()
	if err != nil {
		return nil, err
	}
	stars, official, automated := 0, "", ""
	for key, values := range f {
		for _, value := range values {
			switch key {
			case "stars":
				n, err := strconv.Atoi(value)
				if err != nil {
					return nil, badRequest("invalid filter 'stars=%s'", value)
				}
				stars = max(stars, n)
			case "is-official":
				official = value
			case "is-automated":
				automated = value
			default:
				return nil, badRequest("invalid filter '%s'", key)
			}
		}
	}
	for key, value := range map[string]string{"is-official": official, "is-automated": automated} {
		if _, err := strconv.ParseBool(value); value != "" && err != nil {
			return nil, badRequest("invalid filter '%s=%s'", key, value)
		}
	}
	return func(r registry.SearchResult) bool {
		same := func(want string, is bool) bool { b, _ := strconv.ParseBool(want); return want == "" || b == is }
		return r.StarCount >= stars && same(official, r.IsOfficial) && same(automated, r.IsAutomated)
	}, nil
}
