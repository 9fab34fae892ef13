package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Found is a repository that a search found.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
}

const (
	// searchHost is where Docker's own registry is searched.
	searchHost = "index.docker.io"
	// maxFound bounds an answer to a search, in bytes.
	maxFound = 4 << 20
	// catalogPage is how many names are asked for at once, maxPages how often.
	catalogPage = 1000
	maxPages    = 100
)

// Search asks a registry for repositories with a term in their names, at most limit. One
// that has no search (GET /v1/search, which no specification has) is asked for its
// catalog, of which the first hundred thousand names are looked at.
func (c *Client) Search(ctx context.Context, host, term string, limit int) (found []Found, err error) {
	err = c.each(ctx, host, "resolve", func(e endpoint) (err error) {
		found, err = c.search(ctx, e, host, term, limit)
		if err != nil && !errdefs.IsUnavailable(err) { // it is there
			found, err = c.catalog(ctx, e, host, term, limit)
		}
		return err
	})
	return found, err
}

func (c *Client) search(ctx context.Context, e endpoint, host, term string, limit int) ([]Found, error) {
	at := e.base
	if host == "docker.io" && strings.HasSuffix(at.Host, ".docker.io") {
		at.Host = searchHost
	}
	at.Path, at.RawQuery = "/v1/search", url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode()
	var out struct {
		Results []Found `json:"results"`
	}
	if _, err := c.list(ctx, e, call{method: http.MethodGet, at: &at, ref: Reference{Host: host}}, "search", &out); err != nil {
		return nil, err
	}
	return out.Results[:min(limit, len(out.Results))], nil
}

// list makes a call whose answer is JSON, and returns where it goes on.
func (c *Client) list(ctx context.Context, e endpoint, cl call, what string, into any) (next *url.URL, err error) {
	what = fmt.Sprintf("%s at %s", what, e.base.Host)
	resp, err := c.do(ctx, e, cl)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, failure(what, resp)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxFound)).Decode(into); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, err, errdefs.ErrUnknown)
	}
	return nextPage(resp), nil
}

// nextPage is what a Link header says (RFC 8288, distribution-spec "Listing Tags"); nil
// is the end.
func nextPage(resp *http.Response) *url.URL {
	target, params, ok := strings.Cut(resp.Header.Get("Link"), ";")
	target = strings.TrimSpace(target)
	if !ok || !strings.Contains(params, "next") || len(target) < 2 {
		return nil
	}
	next, err := resp.Request.URL.Parse(target[1 : len(target)-1])
	if err != nil {
		return nil
	}
	return next
}

// catalog looks for a term in the names of all repositories.
func (c *Client) catalog(ctx context.Context, e endpoint, host, term string, limit int) ([]Found, error) {
	at := e.base.JoinPath("_catalog")
	at.RawQuery = url.Values{"n": {strconv.Itoa(catalogPage)}}.Encode()
	var found []Found
	for range maxPages {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		next, err := c.list(ctx, e, call{method: http.MethodGet, at: at, ref: Reference{Host: host}, scope: "registry:catalog:*"}, "catalog", &page)
		if err != nil {
			return nil, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, term) {
				found = append(found, Found{Name: name})
			}
			if len(found) == limit {
				return found, nil
			}
		}
		if next == nil {
			break
		}
		at = next
	}
	return found, nil
}
