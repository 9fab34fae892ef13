package docker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// importSource opens what an image is made of: the request's body, or a URL that the
// daemon fetches. Without a scheme it is http's.
func importSource(c *call, src string) (io.ReadCloser, error) {
	if src == "-" {
		return c.r.Body, nil
	}
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, badRequest("invalid source of an image: %q: it is -, or an http or https URL", c.query("fromSrc"))
	}
	return fetch(c.r.Context(), u)
}

func fetch(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s answers %s: %w", u.Redacted(), resp.Status, errdefs.ErrNotFound)
	}
	return nil, fmt.Errorf("%s answers %s: %w", u.Redacted(), resp.Status, errdefs.ErrUnknown)
}
