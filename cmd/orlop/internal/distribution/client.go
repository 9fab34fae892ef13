// Package distribution is a small client of the OCI distribution API, for looking into
// registries. Pulls and pushes are the daemon's.
//
// Credentials go to the registry, and to a token server only if the registry names it
// over TLS or it is the registry's own host. What a registry answers is bounded.
package distribution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Bounds of answers.
const (
	maxAnswer = 16 << 20 // bytes
	maxPages  = 1000
	wait      = 2 * time.Minute
)

// Client talks to one registry. It isn't safe for concurrent use.
type Client struct {
	base           url.URL
	user, password string
	http           *http.Client
	authorization  map[string]string // by scope
}

// New makes a client. Plain HTTP is for this machine, or where it is asked for.
func New(host, user, password string, plain bool) (*Client, error) {
	u, err := url.Parse("https://" + host)
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is no registry such as registry.example.com:5000", host)
	}
	if plain || loopback(u.Hostname()) {
		u.Scheme = "http"
	}
	return &Client{base: *u, user: user, password: password, http: &http.Client{Timeout: wait}, authorization: map[string]string{}}, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// request is one call.
type request struct {
	method, path, scope, accept string
	kind                        string // media type of the body
	body                        []byte
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// do makes a call, with a login if the registry asks for one.
func (c *Client) do(ctx context.Context, q request) (Answer, error) {
	if c.user != "" && c.authorization[q.scope] == "" {
		// What nobody in particular may do, too, is to be done as the user.
		if err := c.introduce(ctx, q.scope); err != nil {
			return Answer{}, err
		}
	}
	for again := false; ; again = true {
		resp, err := c.send(ctx, q)
		if err != nil {
			return Answer{}, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		resp.Body.Close()
		switch {
		case err != nil:
			return Answer{}, err
		case len(body) > maxAnswer:
			return Answer{}, fmt.Errorf("%s answers more than %d bytes", c.base.Host, maxAnswer)
		case resp.StatusCode == http.StatusUnauthorized && !again:
			if err := c.login(ctx, q, resp.Header.Get("WWW-Authenticate")); err != nil {
				return Answer{}, err
			}
		case resp.StatusCode >= 300:
			return Answer{}, fmt.Errorf("%s: %s", c.base.Host, said(resp.Status, body))
		default:
			return Answer{resp.StatusCode, resp.Header, body}, nil
		}
	}
}

// introduce logs in if the registry knows logins.
func (c *Client) introduce(ctx context.Context, scope string) error {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/v2/"})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	return c.login(ctx, request{scope: scope}, resp.Header.Get("WWW-Authenticate"))
}

func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	u := c.base
	var args string
	u.Path, args, _ = strings.Cut(q.path, "?")
	u.RawQuery = args
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.kind != "" {
		req.Header.Set("Content-Type", q.kind)
	}
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	}
	if a := c.authorization[q.scope]; a != "" {
		req.Header.Set("Authorization", a)
	}
	return c.http.Do(req)
}

// said is a registry's error as a line.
func said(status string, body []byte) string {
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return status
	}
	return fmt.Sprintf("%.500s", answer.Errors[0].Message)
}

// parameter is key="value" of a challenge.
var parameter = regexp.MustCompile(`([a-zA-Z]+)="([^"]*)"`)

func (c *Client) login(ctx context.Context, q request, challenge string) error {
	scheme, rest, _ := strings.Cut(challenge, " ")
	if strings.EqualFold(scheme, "Basic") {
		if c.user == "" {
			return fmt.Errorf("%s wants a login: orlop login %s", c.base.Host, c.base.Host)
		}
		var r = http.Request{Header: http.Header{}}
		r.SetBasicAuth(c.user, c.password)
		c.authorization[q.scope] = r.Header.Get("Authorization")
		return nil
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return fmt.Errorf("%s wants a login by %.50q, which is not known", c.base.Host, scheme)
	}
	params := map[string]string{}
	for _, m := range parameter.FindAllStringSubmatch(rest, -1) {
		params[strings.ToLower(m[1])] = m[2]
	}
	token, err := c.token(ctx, params, q.scope)
	c.authorization[q.scope] = "Bearer " + token
	return err
}

func (c *Client) token(ctx context.Context, params map[string]string, scope string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil {
		return "", err
	}
	if realm.Scheme != "https" && (realm.Scheme != "http" || realm.Host != c.base.Host || c.base.Scheme != "http") {
		return "", fmt.Errorf("%s names the token server %q, which is not safe to log in to", c.base.Host, realm.Redacted())
	}
	args := realm.Query()
	args.Set("service", params["service"])
	if scope != "" {
		args.Set("scope", scope)
	}
	realm.RawQuery = args.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", realm.Host, said(resp.Status, body))
	}
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		answer.Token = answer.Access
	}
	if answer.Token == "" {
		return "", errors.New(realm.Host + " answers without a token")
	}
	return answer.Token, nil
}

// next is where the page that follows is; empty is nowhere.
func (c *Client) next(h http.Header) string {
	text, _, ok := strings.Cut(strings.TrimPrefix(h.Get("Link"), "<"), ">")
	if !ok {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host != "" && !sameHost(u.Host, c.base.Host) {
		return ""
	}
	return u.RequestURI()
}

func sameHost(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return a == b || hostA != "" && hostA == hostB && portA == portB
}
