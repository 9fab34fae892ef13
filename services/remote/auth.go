package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Credentials log in to one registry. The zero value is anonymous. A Username of
// "<token>" makes Password an identity token (docker's form).
type Credentials struct {
	Username, Password string
	// Header is a whole Authorization header, instead of the two.
	Header string
}

// Login is what somebody asks who wants credentials.
type Login struct {
	Host       string   // where the registry answers: "registry-1.docker.io"
	Reference  string   // the image that is wanted
	Challenges []string // the WWW-Authenticate headers
}

// CredentialFunc finds the credentials for a registry.
type CredentialFunc func(ctx context.Context, l Login) (Credentials, error)

const (
	// maxToken bounds a token server's answer, in bytes.
	maxToken = 1 << 20
	// tokenWait bounds how long a token server may take.
	tokenWait = 30 * time.Second
	// maxTokens bounds how many tokens a client remembers.
	maxTokens = 1024
	// maxTokenLife bounds how long one is believed.
	maxTokenLife = time.Hour
)

// tokens keeps Authorization headers by endpoint and scope until they expire.
type tokens struct {
	mu    sync.Mutex
	items map[string]token
}

type token struct {
	header  string
	expires time.Time
}

func (t *tokens) get(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.items[key]
	if !ok || time.Now().After(tok.expires) {
		delete(t.items, key)
		return ""
	}
	return tok.header
}

func (t *tokens) put(key string, tok token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.items == nil || len(t.items) > maxTokens {
		t.items = map[string]token{}
	}
	t.items[key] = tok
}

func (t *tokens) drop(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.items, key)
}

// tokenKey says what an Authorization header is good for.
func tokenKey(e endpoint, scope string) string {
	return e.base.Scheme + "://" + e.base.Host + "\n" + scope
}

// authorize answers a 401: it returns the Authorization header to try.
func (c *Client) authorize(ctx context.Context, e endpoint, cl call, resp *http.Response) (string, error) {
	headers := resp.Header.Values("WWW-Authenticate")
	creds, err := c.credentials(ctx, e, cl, headers)
	if err != nil {
		return "", fmt.Errorf("credentials for registry %s: %w", e.base.Host, err)
	}
	tok := token{header: creds.Header, expires: time.Now().Add(time.Minute)}
	if tok.header == "" {
		if tok, err = c.answer(ctx, e, cl.scope, parseChallenges(headers), creds); err != nil {
			return "", err
		}
	}
	c.tokens.put(tokenKey(e, cl.scope), tok)
	return tok.header, nil
}

// answer prefers a token to a password, whatever the order of the challenges.
func (c *Client) answer(ctx context.Context, e endpoint, scope string, all []challenge, creds Credentials) (token, error) {
	if i := slices.IndexFunc(all, func(ch challenge) bool { return ch.scheme == "bearer" }); i >= 0 {
		return c.bearer(ctx, e, all[i], scope, creds)
	}
	basic := slices.ContainsFunc(all, func(ch challenge) bool { return ch.scheme == "basic" })
	if basic && creds.Username != "" && creds.Username != "<token>" {
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(creds.Username, creds.Password)
		return token{req.Header.Get("Authorization"), time.Now().Add(maxTokenLife)}, nil
	}
	return token{}, fmt.Errorf("registry %s wants a login and none is known for it: %w", e.base.Host, errdefs.ErrUnauthenticated)
}

func (c *Client) credentials(ctx context.Context, e endpoint, cl call, headers []string) (Credentials, error) {
	if c.cfg.Credentials == nil {
		return Credentials{}, nil
	}
	return c.cfg.Credentials(ctx, Login{Host: e.base.Host, Reference: cl.ref.Name, Challenges: headers})
}

// checkRealm keeps credentials from going where the registry has no business to
// send them: a realm is https, or it is on the plain-http registry's own host.
// What a registry says that is reached by plain http from afar may be anybody's
// word, so it can't send a login to another host at all.
func checkRealm(e endpoint, realm *url.URL) error {
	same := realm.Hostname() == e.base.Hostname()
	local := isLoopback(e.base.Host)
	switch {
	case realm.Host == "":
	case realm.Scheme == "https" && (e.base.Scheme == "https" || same || local):
		return nil
	case realm.Scheme == "http" && e.base.Scheme == "http" && (same || local && isLoopback(realm.Host)):
		return nil
	}
	return fmt.Errorf("registry %s names token server %q, which is not safe to log in to: %w", e.base.Host, realm.Redacted(), errdefs.ErrPermissionDenied)
}

func (c *Client) bearer(ctx context.Context, e endpoint, ch challenge, scope string, creds Credentials) (token, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil {
		return token{}, fmt.Errorf("registry %s: token realm: %w: %w", e.base.Host, err, errdefs.ErrInvalidArgument)
	}
	if err := checkRealm(e, realm); err != nil {
		return token{}, err
	}
	if scope == "" {
		scope = ch.params["scope"]
	}
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	req, err := tokenRequest(ctx, realm, ch.params["service"], scope, creds)
	if err != nil {
		return token{}, err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	client := e.foreign
	if realm.Host == e.base.Host {
		client = e.client
	}
	return fetchToken(client, req)
}

func tokenRequest(ctx context.Context, realm *url.URL, service, scope string, creds Credentials) (*http.Request, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	for s := range strings.FieldsSeq(scope) {
		q.Add("scope", s)
	}
	if creds.Username == "<token>" {
		q.Set("scope", scope) // here a list joined by blanks (RFC 6749, section 3.3)
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", creds.Password)
		q.Set("client_id", "orlop")
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	u := *realm
	u.RawQuery = strings.Trim(u.RawQuery+"&"+q.Encode(), "&")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && creds.Username != "" {
		req.SetBasicAuth(creds.Username, creds.Password)
	}
	return req, err
}

func fetchToken(client *http.Client, req *http.Request) (token, error) {
	resp, err := client.Do(req)
	if err != nil {
		return token{}, fmt.Errorf("token server: %w", unreachable(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return token{}, fmt.Errorf("token server: %w", unreachable(err))
	}
	if resp.StatusCode != http.StatusOK {
		var err error = errdefs.ErrUnauthenticated
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			err = class(resp.StatusCode)
		}
		return token{}, fmt.Errorf("token server %s answers %s%s: %w", req.URL.Host, resp.Status, said(body), err)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return token{}, fmt.Errorf("token server %s: %w", req.URL.Host, err)
	}
	value := answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return token{}, errors.New("token server " + req.URL.Host + " answers without a token")
	}
	// 60 s is what the distribution spec's token page has clients assume.
	life := min(max(time.Duration(min(answer.ExpiresIn, 1<<20))*time.Second, time.Minute), maxTokenLife)
	return token{"Bearer " + value, time.Now().Add(life - 10*time.Second)}, nil
}
