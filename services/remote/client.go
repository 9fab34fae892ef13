package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// Config is what a Client needs to know.
type Config struct {
	// HostDirs are searched for <host>/hosts.toml, in order.
	HostDirs []string
	// PlainHTTP lists hosts reached without TLS; loopback always is.
	PlainHTTP []string
	// Credentials finds logins; nil is anonymous.
	Credentials CredentialFunc
	// Header is sent with every request.
	Header http.Header
	// UserAgent names the program.
	UserAgent string
}

// Client talks to registries.
type Client struct {
	cfg    Config
	tokens tokens
}

// New makes a client; it connects to nothing yet.
func New(cfg Config) *Client {
	if cfg.UserAgent == "" {
		cfg.UserAgent = "orlop"
	}
	return &Client{cfg: cfg}
}

// maxErrorBody bounds how much of a registry's error is read, in bytes.
const maxErrorBody = 64 << 10

// call is one request to one endpoint.
type call struct {
	method, path string
	host         string // the registry's name, told to mirrors as ?ns=
	scope        string
	header       http.Header
	body         func() (io.Reader, int64) // nil for none; called anew for each try
}

// do sends a request, answering one authentication challenge.
func (c *Client) do(ctx context.Context, e endpoint, cl call) (*http.Response, error) {
	var authorization string
	for try := 0; ; try++ {
		req, err := c.request(ctx, e, cl)
		if err != nil {
			return nil, err
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := e.client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || try > 0 {
			return resp, nil
		}
		drain(resp)
		if authorization, err = c.authorization(ctx, e, cl.scope, resp); err != nil {
			return nil, err
		}
	}
}

func (c *Client) request(ctx context.Context, e endpoint, cl call) (*http.Request, error) {
	path, query, _ := strings.Cut(cl.path, "?")
	u := *e.base.JoinPath(path)
	u.RawQuery = query
	if e.mirror {
		u.RawQuery = strings.Trim(query+"&ns="+cl.host, "&")
	}
	return c.requestTo(ctx, u.String(), e, cl)
}

func (c *Client) requestTo(ctx context.Context, address string, e endpoint, cl call) (*http.Request, error) {
	var body io.Reader
	var size int64
	if cl.body != nil {
		body, size = cl.body()
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, address, body)
	if err != nil {
		return nil, err
	}
	if cl.body != nil {
		req.ContentLength = size
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	for _, h := range []http.Header{c.cfg.Header, e.header, cl.header} {
		for k, v := range h {
			req.Header[k] = v
		}
	}
	return req, nil
}

func drain(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
}

// failure turns an unexpected answer into an error of its class, with what the
// registry said (distribution-spec, "Error Codes").
func failure(what string, resp *http.Response) error {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	err := fmt.Errorf("%s: %s%s: %w", what, resp.Status, said(body), class(resp.StatusCode))
	return err
}

func said(body []byte) string {
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	var parts []string
	for _, e := range answer.Errors[:min(len(answer.Errors), 5)] {
		parts = append(parts, strings.TrimSpace(e.Code+" "+e.Message))
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

func class(status int) error {
	switch status {
	case http.StatusNotFound:
		return errdefs.ErrNotFound
	case http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case http.StatusTooManyRequests:
		return errdefs.ErrResourceExhausted
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable:
		return errdefs.ErrInvalidArgument
	}
	if status >= 500 {
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrUnknown
}

// each tries the endpoints that can do what is asked, until one succeeds.
func (c *Client) each(ctx context.Context, host, capability string, try func(endpoint) error) error {
	all, err := c.endpoints(host)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		if !e.does(capability) {
			continue
		}
		err := try(e)
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return fmt.Errorf("no host of registry %q may %s: %w", host, capability, errdefs.ErrFailedPrecondition)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	// The registry itself stands last: its answer gives the class.
	return fmt.Errorf("%w (mirrors: %w)", errs[len(errs)-1], errors.Join(errs[:len(errs)-1]...))
}

func pullScope(repo string) string { return "repository:" + repo + ":pull" }
