package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	// Header is sent with every request to the registry and its mirrors.
	Header http.Header
	// UserAgent names the program.
	UserAgent string
	// StallTimeout is how long an answer may bring next to nothing; 0 is a
	// minute.
	StallTimeout time.Duration
}

// Client talks to registries.
type Client struct {
	cfg    Config
	tokens tokens

	mu    sync.Mutex            // guards hosts
	hosts map[string][]endpoint // as read from hosts.toml, by registry
}

// New makes a client; it connects to nothing yet.
func New(cfg Config) *Client {
	if cfg.UserAgent == "" {
		cfg.UserAgent = "orlop"
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = time.Minute
	}
	return &Client{cfg: cfg, hosts: map[string][]endpoint{}}
}

// maxErrorBody bounds how much of a registry's error is read, in bytes.
const maxErrorBody = 64 << 10

// call is one request to one endpoint.
type call struct {
	method, path string
	at           *url.URL // instead of path: where the registry said to go on
	ref          Reference
	scope        string
	header       http.Header
	body         func() io.Reader // nil for none; called anew for each try
	size         int64            // of the body
}

// do sends a request, answering authentication challenges: one for a request that
// came without a token or with one that has expired meanwhile.
func (c *Client) do(ctx context.Context, e endpoint, cl call) (*http.Response, error) {
	key := tokenKey(e, cl.scope)
	authorization := c.tokens.get(key)
	for fresh := false; ; fresh = true {
		resp, err := c.send(ctx, e, cl, authorization)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || fresh || !from(e, resp) {
			return resp, nil
		}
		drain(resp)
		c.tokens.drop(key)
		if authorization, err = c.authorize(ctx, e, cl, resp); err != nil {
			return nil, err
		}
	}
}

// trusted reports whether a call goes to the endpoint itself, which may see
// credentials and headers, and not where it sends us.
func (cl call) trusted(e endpoint) bool {
	return cl.at == nil || cl.at.Scheme == e.base.Scheme && cl.at.Host == e.base.Host
}

// from reports whether the endpoint itself answered: where it redirects to has no
// word about who gets credentials (CVE-2020-15157).
func from(e endpoint, resp *http.Response) bool {
	u := resp.Request.URL
	return u.Scheme == e.base.Scheme && u.Host == e.base.Host
}

func (c *Client) send(ctx context.Context, e endpoint, cl call, authorization string) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := c.request(ctx, e, cl)
	if err != nil {
		cancel()
		return nil, err
	}
	var stalled atomic.Bool
	stall := func() { stalled.Store(true); cancel() }
	if cl.size > 0 {
		plain := req.GetBody
		req.GetBody = func() (io.ReadCloser, error) {
			r, err := plain()
			return watchSent(r, c.cfg.StallTimeout, stall), err
		}
		req.Body, _ = req.GetBody()
	} else if cl.method != http.MethodPut { // at the end of which a registry may hash for long
		defer time.AfterFunc(c.cfg.StallTimeout, stall).Stop()
	}
	client := e.foreign
	if cl.trusted(e) {
		client = e.client
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		if stalled.Load() {
			return nil, fmt.Errorf("the registry did nothing for %v: %w", c.cfg.StallTimeout, errdefs.ErrUnavailable)
		}
		return nil, unreachable(err)
	}
	resp.Body = watch(resp.Body, c.cfg.StallTimeout, cancel)
	return resp, nil
}

// unreachable gives network errors their class; those of contexts keep theirs.
func unreachable(err error) error {
	var net net.Error
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &net) &&
		!errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}

func (c *Client) request(ctx context.Context, e endpoint, cl call) (*http.Request, error) {
	u := cl.at
	if u == nil {
		path, query, _ := strings.Cut(cl.path, "?")
		u = e.base.JoinPath(path)
		u.RawQuery = query
		if e.mirror {
			u.RawQuery = strings.Trim(query+"&ns="+url.QueryEscape(cl.ref.Host), "&")
		}
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if cl.body != nil {
		req.ContentLength = cl.size
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(cl.body()), nil }
		req.Body, _ = req.GetBody()
		if cl.size == 0 {
			req.Body = http.NoBody
		}
	}
	all := []http.Header{cl.header}
	if cl.trusted(e) {
		all = []http.Header{c.cfg.Header, e.header, cl.header}
	}
	for _, h := range all {
		for k, v := range h {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
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
	return fmt.Errorf("%s: %s%s: %w", what, resp.Status, said(body), class(resp.StatusCode))
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
		parts = append(parts, fmt.Sprintf("%.200s", strings.TrimSpace(e.Code+" "+e.Message)))
	}
	return " (" + strings.ToValidUTF8(strings.Join(parts, "; "), "?") + ")"
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
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable, http.StatusRequestEntityTooLarge:
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
		return noHost(host, capability)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	// The registry itself stands last: its answer gives the class.
	return fmt.Errorf("%w (mirrors: %v)", errs[len(errs)-1], errors.Join(errs[:len(errs)-1]...))
}

func noHost(host, capability string) error {
	return fmt.Errorf("no host of registry %q may %s: %w", host, capability, errdefs.ErrFailedPrecondition)
}

func pullScope(repo string) string { return "repository:" + repo + ":pull" }
