package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Credentials log in to one registry. The zero value is anonymous. A Username of
// "<token>" makes Password an identity token (docker's form).
type Credentials struct{ Username, Password string }

// CredentialFunc finds the credentials for a registry's host.
type CredentialFunc func(ctx context.Context, host string) (Credentials, error)

// maxToken bounds a token server's answer, in bytes.
const maxToken = 1 << 20

// tokens keeps bearer tokens by realm, service and scope until they expire.
type tokens struct {
	mu    sync.Mutex
	items map[string]token
}

type token struct {
	value   string
	expires time.Time
}

func (t *tokens) get(key string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.items[key]
	if !ok || time.Now().After(tok.expires) {
		delete(t.items, key)
		return "", false
	}
	return tok.value, true
}

func (t *tokens) put(key string, tok token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.items == nil || len(t.items) > 1024 {
		t.items = map[string]token{}
	}
	t.items[key] = tok
}

// challenge is a parsed WWW-Authenticate header (RFC 9110, section 11.6.1).
type challenge struct {
	scheme string // lower case
	params map[string]string
}

func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
		for rest != "" {
			var key, value string
			key, rest, _ = strings.Cut(rest, "=")
			value, rest = cutValue(rest)
			c.params[strings.ToLower(strings.Trim(key, " ,"))] = value
		}
		out = append(out, c)
	}
	return out
}

func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		return strings.TrimSpace(value), rest
	}
	value, rest, _ = strings.Cut(s[1:], `"`)
	return value, strings.TrimLeft(rest, ", ")
}

// authorization answers a 401: it returns the Authorization header to try.
func (c *Client) authorization(ctx context.Context, e endpoint, scope string, resp *http.Response) (string, error) {
	creds, err := c.credentials(ctx, e.base.Host)
	if err != nil {
		return "", err
	}
	for _, ch := range parseChallenges(resp.Header.Values("WWW-Authenticate")) {
		switch {
		case ch.scheme == "bearer":
			return c.bearer(ctx, e, ch, scope, creds)
		case ch.scheme == "basic" && creds.Username != "":
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(creds.Username, creds.Password)
			return req.Header.Get("Authorization"), nil
		}
	}
	return "", fmt.Errorf("registry %s wants a login and none is known for it: %w", e.base.Host, errdefs.ErrUnauthenticated)
}

func (c *Client) credentials(ctx context.Context, host string) (Credentials, error) {
	if c.cfg.Credentials == nil {
		return Credentials{}, nil
	}
	if host == "registry-1.docker.io" {
		host = "docker.io"
	}
	return c.cfg.Credentials(ctx, host)
}

// checkRealm keeps credentials from going where the registry has no business to
// send them: a realm is https, or it is on the plain-http registry's own host.
func checkRealm(e endpoint, realm *url.URL) error {
	switch {
	case realm.Scheme == "https" && realm.Host != "":
		return nil
	case realm.Scheme == "http" && e.base.Scheme == "http" && realm.Hostname() == e.base.Hostname():
		return nil
	case realm.Scheme == "http" && e.base.Scheme == "http" && isLoopback(realm.Host) && isLoopback(e.base.Host):
		return nil
	}
	return fmt.Errorf("registry %s names token server %q, which is not safe to log in to: %w", e.base.Host, realm.Redacted(), errdefs.ErrPermissionDenied)
}

func (c *Client) bearer(ctx context.Context, e endpoint, ch challenge, scope string, creds Credentials) (string, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil {
		return "", fmt.Errorf("registry %s: token realm: %w", e.base.Host, err)
	}
	if err := checkRealm(e, realm); err != nil {
		return "", err
	}
	if s := ch.params["scope"]; s != "" && scope == "" {
		scope = s
	}
	key := strings.Join([]string{realm.String(), ch.params["service"], scope, creds.Username}, "\n")
	if value, ok := c.tokens.get(key); ok {
		return "Bearer " + value, nil
	}
	tok, err := c.fetchToken(ctx, e, realm, ch.params["service"], scope, creds)
	if err != nil {
		return "", err
	}
	c.tokens.put(key, tok)
	return "Bearer " + tok.value, nil
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
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && creds.Username != "" {
		req.SetBasicAuth(creds.Username, creds.Password)
	}
	return req, err
}

func (c *Client) fetchToken(ctx context.Context, e endpoint, realm *url.URL, service, scope string, creds Credentials) (token, error) {
	req, err := tokenRequest(ctx, realm, service, scope, creds)
	if err != nil {
		return token{}, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return token{}, fmt.Errorf("token server: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return token{}, fmt.Errorf("token server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, fmt.Errorf("token server %s answers %s: %w", realm.Host, resp.Status, errdefs.ErrUnauthenticated)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return token{}, fmt.Errorf("token server %s: %w", realm.Host, err)
	}
	value := answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" {
		return token{}, errors.New("token server " + realm.Host + " answers without a token")
	}
	// 60 s is what the distribution spec's token page has clients assume.
	life := max(time.Duration(answer.ExpiresIn)*time.Second, time.Minute)
	return token{value, time.Now().Add(life - 10*time.Second)}, nil
}
