package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/access"
)

// rig is a registry with users alice, bob and carol, whose passwords are their names
// backwards.
type rig struct {
	*testing.T
	users string
	http  *httptest.Server
}

var passwords = map[string]string{"alice": "ecila", "bob": "bob", "carol": "lorac"}

// rights of the rig: alice has team/**, bob may pull from there, everybody may pull
// from public/**, carol has what is called after her.
var rights = []access.Right{
	{Who: []string{"alice"}, Repositories: []string{"team/**"}, Actions: []string{"*"}},
	{Who: []string{"bob"}, Repositories: []string{"team/**"}, Actions: []string{"pull"}},
	{Who: []string{"bob"}, Repositories: []string{"bobs"}, Actions: []string{"push"}},
	{Who: []string{"alice"}, Repositories: []string{"public/**"}, Actions: []string{"push"}},
	{Who: []string{"anonymous"}, Repositories: []string{"public/**"}, Actions: []string{"pull"}},
	{Who: []string{"*"}, Repositories: []string{"home/{name}/**"}, Actions: []string{"*"}},
}

func newRig(t *testing.T, change func(*access.Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{T: t, users: filepath.Join(dir, "htpasswd")}
	for name := range passwords {
		r.user(name, passwords[name])
	}
	cfg := access.Config{Users: r.users, Key: filepath.Join(dir, "keys", "token.key"), Rights: rights}
	if change != nil {
		change(&cfg)
	}
	guard, err := access.New(cfg)
	r.ok(err)
	blobs, err := local.Open(filepath.Join(dir, "content"))
	r.ok(err)
	db, err := metadata.Open(filepath.Join(dir, "meta.db"), metadata.DefaultConfig(), metadata.Backends{Content: blobs})
	r.ok(err)
	reg, err := registry.New(registry.Config{}, registry.Parts{Blobs: db.Content(), Catalog: db.Registry(), Leases: db.Leases(), Namespace: metadata.RegistryNamespace}, guard)
	r.ok(err)
	mux := http.NewServeMux()
	mux.Handle("/", reg.Handler())
	mux.Handle(access.TokenPath, guard.Tokens())
	r.http = httptest.NewServer(mux)
	t.Cleanup(func() { r.http.Close(); reg.Close(); db.Close() })
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// user sets a password.
func (r *rig) user(name, password string) {
	r.Helper()
	old, _ := os.ReadFile(r.users)
	var keep []string
	for line := range strings.Lines(string(old)) {
		if !strings.HasPrefix(line, name+":") {
			keep = append(keep, line)
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	r.ok(err)
	r.ok(os.WriteFile(r.users, []byte(strings.Join(keep, "")+name+":"+string(hash)+"\n"), 0o600))
}

// login is how somebody shows who they are.
type login func(*http.Request)

func nobody(*http.Request) {}

func basic(name, password string) login {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

func as(name string) login { return basic(name, passwords[name]) }

func token(text string) login {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+text) }
}

// do makes a request and returns status, body and headers.
func (r *rig) do(who login, method, path, body string) (int, string, http.Header) {
	r.Helper()
	req, err := http.NewRequest(method, r.http.URL+path, strings.NewReader(body))
	r.ok(err)
	if method == "POST" && path == access.TokenPath {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	who(req)
	resp, err := http.DefaultClient.Do(req)
	r.ok(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	r.ok(err)
	return resp.StatusCode, string(data), resp.Header
}

// want fails unless the status is as expected.
func (r *rig) want(status int, who login, method, path, body string) string {
	r.Helper()
	got, text, _ := r.do(who, method, path, body)
	if got != status {
		r.Fatalf("%s %s: status %d, %s; want %d", method, path, got, text, status)
	}
	return text
}

// token gets one, for scopes.
func (r *rig) token(who login, scopes ...string) string {
	r.Helper()
	var out struct{ Token string }
	text := r.want(200, who, "GET", access.TokenPath+"?"+url.Values{"scope": scopes}.Encode(), "")
	r.ok(json.Unmarshal([]byte(text), &out))
	return out.Token
}

// push puts a blob.
func (r *rig) push(who login, repo, text string, status int) string {
	r.Helper()
	d := digest.FromString(text).String()
	r.want(status, who, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, text)
	return "/v2/" + repo + "/blobs/" + d
}

func TestRights(t *testing.T) {
	r := newRig(t, nil)
	blob := r.push(as("alice"), "team/app", "secret", 201)
	r.want(200, as("bob"), "GET", blob, "")
	r.push(as("bob"), "team/app", "x", 403)
	r.want(403, as("bob"), "DELETE", blob, "")
	r.want(403, as("carol"), "GET", blob, "")
	r.want(401, nobody, "GET", blob, "")
	r.want(401, basic("alice", "wrong"), "GET", blob, "")
	r.want(401, basic("mallory", ""), "GET", blob, "")
	open := r.push(as("alice"), "public/app", "open", 201)
	r.want(200, nobody, "GET", open, "")
	r.want(401, basic("alice", "wrong"), "GET", open, "") // wrong is never anonymous
	r.push(nobody, "public/app", "x", 401)
	r.push(as("carol"), "home/carol/app", "mine", 201)
	r.push(as("carol"), "home/bob/app", "yours", 403)
	r.want(202, as("alice"), "DELETE", blob, "")
}

func TestCatalogShowsWhatOneMayPull(t *testing.T) {
	r := newRig(t, nil)
	r.push(as("alice"), "team/app", "a", 201)
	r.push(as("alice"), "public/app", "b", 201)
	r.push(as("carol"), "home/carol/app", "c", 201)
	for who, want := range map[string]string{"alice": `["public/app","team/app"]`, "carol": `["home/carol/app","public/app"]`} {
		list := `{"repositories":` + want + `}`
		if got := r.want(200, as(who), "GET", "/v2/_catalog", ""); got != list {
			t.Errorf("%s sees %s", who, got)
		}
		r.want(401, token(r.token(as(who))), "GET", "/v2/_catalog", "")
		if got := r.want(200, token(r.token(as(who), "registry:catalog:*")), "GET", "/v2/_catalog", ""); got != list {
			t.Errorf("%s sees %s by token", who, got)
		}
	}
	if got := r.want(200, nobody, "GET", "/v2/_catalog?n=10", ""); got != `{"repositories":["public/app"]}` {
		t.Errorf("nobody sees %s", got)
	}
	if got := r.want(200, as("carol"), "GET", "/v2/_catalog?n=1&last=home/carol/app", ""); got != `{"repositories":["public/app"]}` {
		t.Errorf("the second page is %s", got)
	}
}

func TestTokens(t *testing.T) {
	r := newRig(t, nil)
	blob := r.push(as("alice"), "team/app", "secret", 201)
	other := r.push(as("alice"), "team/other", "secret too", 201)
	pull := token(r.token(as("alice"), "repository:team/app:pull"))
	r.want(200, pull, "GET", "/v2/", "")
	r.want(200, pull, "GET", blob, "")
	r.want(401, pull, "GET", other, "") // for one repository only
	r.push(pull, "team/app", "x", 401)  // and one action
	r.want(401, pull, "DELETE", blob, "")
	more := token(r.token(as("bob"), "repository:team/app:pull,push,delete", "repository:home/carol/x:pull"))
	r.want(200, more, "GET", blob, "") // what the rules allow of it
	r.push(more, "team/app", "x", 403)
	r.want(403, more, "DELETE", blob, "")
	r.want(401, token(r.token(nobody, "repository:team/app:pull")), "GET", blob, "")
	r.want(401, basic("alice", "wrong"), "GET", access.TokenPath, "")
	r.want(400, as("alice"), "GET", access.TokenPath+"?service=else", "")
	r.want(401, pull, "GET", access.TokenPath, "") // a token doesn't beget tokens
	r.user("alice", "changed")
	r.later(func() bool { s, _, _ := r.do(pull, "GET", blob, ""); return s == 401 })
}

// later waits until something is so: files are looked at once a second.
func (r *rig) later(is func() bool) {
	r.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.Fatal("it did not become so in ten seconds")
}

func TestForms(t *testing.T) {
	r := newRig(t, nil)
	blob := r.push(as("alice"), "team/app", "secret", 201)
	post := func(status int, pairs ...string) (out struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}) {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		json.Unmarshal([]byte(r.want(status, nobody, "POST", access.TokenPath, v.Encode())), &out)
		return out
	}
	first := post(200, "grant_type", "password", "username", "alice", "password", "ecila", "access_type", "offline", "scope", "repository:team/app:pull repository:team/x:push")
	r.want(200, token(first.Access), "GET", blob, "")
	r.push(token(first.Access), "team/app", "x", 401)
	r.want(401, token(first.Refresh), "GET", blob, "") // is good for tokens only
	second := post(200, "grant_type", "refresh_token", "refresh_token", first.Refresh, "scope", "repository:team/app:pull")
	r.want(200, token(second.Access), "GET", blob, "")
	post(401, "grant_type", "refresh_token", "refresh_token", second.Access)
	post(401, "grant_type", "password", "username", "alice", "password", "wrong")
	post(400, "grant_type", "magic")
	r.user("alice", "changed")
	r.later(func() bool {
		s, _, _ := r.do(nobody, "POST", access.TokenPath, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}}.Encode())
		return s == 401
	})
}

func TestMountNeedsTheRightToRead(t *testing.T) {
	r := newRig(t, nil)
	r.push(as("alice"), "team/app", "secret", 201)
	d := digest.FromString("secret").String()
	mount := "/v2/%/blobs/uploads/?from=team/app&mount=" + d
	r.want(202, as("carol"), "POST", strings.Replace(mount, "%", "home/carol/x", 1), "") // an upload begins
	r.want(404, as("carol"), "HEAD", "/v2/home/carol/x/blobs/"+d, "")
	r.want(201, as("bob"), "POST", strings.Replace(mount, "%", "bobs", 1), "")
	narrow := token(r.token(as("bob"), "repository:home/bob/y:pull,push"))
	r.want(202, narrow, "POST", strings.Replace(mount, "%", "home/bob/y", 1), "")
}

func TestChallenges(t *testing.T) {
	r := newRig(t, nil)
	for path, want := range map[string]string{
		"/v2/":                        `Bearer realm="` + r.http.URL + `/auth/token",service="orlop-registry"`,
		"/v2/team/app/tags/list":      `Bearer realm="` + r.http.URL + `/auth/token",service="orlop-registry",scope="repository:team/app:pull"`,
		"/v2/team/app/blobs/uploads/": `Bearer realm="` + r.http.URL + `/auth/token",service="orlop-registry",scope="repository:team/app:pull,push"`,
	} {
		method := "GET"
		if strings.HasSuffix(path, "uploads/") {
			method = "POST"
		}
		if _, _, h := r.do(nobody, method, path, ""); h.Get("Www-Authenticate") != want {
			t.Errorf("%s: %s\nwant %s", path, h.Get("Www-Authenticate"), want)
		}
	}
	odd := func(q *http.Request) { q.Host = `x",realm="http://evil` }
	if _, _, h := r.do(odd, "GET", "/v2/", ""); strings.Contains(h.Get("Www-Authenticate"), "evil") {
		t.Errorf("the Host header shows: %s", h.Get("Www-Authenticate"))
	}
	b := newRig(t, func(c *access.Config) { c.Basic = true })
	if _, _, h := b.do(nobody, "GET", "/v2/", ""); h.Get("Www-Authenticate") != `Basic realm="orlop-registry", charset="UTF-8"` {
		t.Errorf("basic: %s", h.Get("Www-Authenticate"))
	}
}

// outside is another issuer of tokens.
type outside struct {
	rig *rig
	key *ecdsa.PrivateKey
	pem []byte
}

func newOutside(t *testing.T, believed bool) *outside {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	path := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(path, o.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	o.rig = newRig(t, func(c *access.Config) {
		c.Issuers = []access.Issuer{{Name: "ci", Issuer: "https://ci", Audience: "registry", Keys: path, Access: believed}}
		c.Rights = append(rights, access.Right{Who: []string{"ci:build"}, Repositories: []string{"team/**"}, Actions: []string{"push"}})
	})
	return o
}

// sign makes a token, good but for what change does.
func (o *outside) sign(alg jose.SignatureAlgorithm, key any, change func(map[string]any)) login {
	o.rig.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	o.rig.ok(err)
	c := map[string]any{"iss": "https://ci", "aud": "registry", "sub": "build", "exp": time.Now().Add(time.Hour).Unix()}
	if change != nil {
		change(c)
	}
	text, err := jwt.Signed(s).Claims(c).Serialize()
	o.rig.ok(err)
	return token(text)
}

func TestIssuer(t *testing.T) {
	o := newOutside(t, false)
	r := o.rig
	blob := r.push(o.sign(jose.ES256, o.key, nil), "team/app", "built", 201)
	r.push(o.sign(jose.ES256, o.key, nil), "home/build/x", "x", 403) // it is ci:build, not build
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.ok(err)
	set := func(k string, v any) func(map[string]any) { return func(m map[string]any) { m[k] = v } }
	for name, bad := range map[string]login{
		"another key":                o.sign(jose.ES256, stranger, nil),
		"the public key as a secret": o.sign(jose.HS256, o.pem, nil),
		"another audience":           o.sign(jose.ES256, o.key, set("aud", "else")),
		"another issuer":             o.sign(jose.ES256, o.key, set("iss", "https://evil")),
		"expired":                    o.sign(jose.ES256, o.key, set("exp", time.Now().Add(-time.Hour).Unix())),
		"no end":                     o.sign(jose.ES256, o.key, func(m map[string]any) { delete(m, "exp") }),
		"not yet":                    o.sign(jose.ES256, o.key, set("nbf", time.Now().Add(time.Hour).Unix())),
		"nobody":                     o.sign(jose.ES256, o.key, func(m map[string]any) { delete(m, "sub") }),
		"no signature":               token("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2NpIn0."),
		"no token":                   token("x"),
	} {
		if s, text, _ := r.do(bad, "GET", blob, ""); s != 401 {
			t.Errorf("%s: %d %s", name, s, text)
		}
	}
}

func TestIssuerThatDecides(t *testing.T) {
	o := newOutside(t, true)
	r := o.rig
	with := func(name string, actions ...string) login {
		return o.sign(jose.ES256, o.key, func(m map[string]any) {
			m["access"] = []any{map[string]any{"type": "repository", "name": name, "actions": actions}}
		})
	}
	blob := r.push(with("any/where", "pull", "push"), "any/where", "x", 201)
	r.want(200, with("any/where", "pull"), "GET", blob, "")
	r.want(401, with("any/other", "pull"), "GET", blob, "")
	r.push(with("any/where", "pull"), "any/where", "y", 401)
	r.want(401, o.sign(jose.ES256, o.key, nil), "GET", blob, "")
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.WriteString(text)
		return f.Name()
	}
	issuer := func(keys string) access.Config {
		return access.Config{Issuers: []access.Issuer{{Name: "a", Issuer: "b", Audience: "c", Keys: keys}}}
	}
	for want, cfg := range map[string]access.Config{
		"not bcrypt's":          {Users: file("a:{SHA}x\n")},
		"no name:hash":          {Users: file("anonymous:$2y$\n")},
		"no such file":          {Users: filepath.Join(dir, "none")},
		"has 3 bytes":           {Users: file(""), Key: file("abc")},
		"none of pull":          {Rights: []access.Right{{Who: []string{"a"}, Repositories: []string{"b"}, Actions: []string{"fly"}}}},
		"all needed":            {Rights: []access.Right{{Who: []string{"a"}}}},
		"token_life":            {TokenLife: time.Second},
		"there are 0 keys":      issuer(file("")),
		"no public key that":    issuer(file(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`)),
		"PRIVATE KEY\" is no p": issuer(file("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
	} {
		if _, err := access.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
