package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/orlop/orlop/services/registry"
)

// Bounds of what is asked for at once.
const (
	maxForm    = 64 << 10 // bytes
	maxScopes  = 64
	maxActions = 16
)

// Tokens serves the token endpoint in both forms of Docker's token specification:
// GET with a password, and POST of a form as in OAuth 2 (RFC 6749).
func (g *Guard) Tokens() http.Handler { return http.HandlerFunc(g.token) }

func (g *Guard) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if g.own == nil {
		http.Error(w, `{"error":"this registry has no tokens"}`, http.StatusNotFound)
		return
	}
	var who string
	var args url.Values
	var err error
	switch r.Method {
	case http.MethodGet:
		args = r.URL.Query()
		who, err = g.login(r)
	case http.MethodPost:
		who, args, err = g.form(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if err == nil {
		err = g.grant(w, r, who, args)
	}
	if err != nil {
		g.refuse(w, err)
	}
}

// badRequest is a request that no credentials would mend.
type badRequest string

func (b badRequest) Error() string { return string(b) }

// refuse answers as clients of either form understand it.
func (g *Guard) refuse(w http.ResponseWriter, err error) {
	status, code, kind := http.StatusInternalServerError, "UNKNOWN", "server_error"
	var bad badRequest
	switch {
	case errors.Is(err, errWrong):
		status, code, kind = http.StatusUnauthorized, "UNAUTHORIZED", "invalid_grant"
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm=%q, charset="UTF-8"`, g.cfg.Service))
	case errors.As(err, &bad):
		status, code, kind = http.StatusBadRequest, "UNSUPPORTED", "invalid_request"
	}
	body, _ := json.Marshal(map[string]any{"error": kind, "error_description": err.Error(), "details": err.Error(),
		"errors": []map[string]string{{"code": code, "message": err.Error()}}})
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body)
}

// login is the name of who asks with a password or a certificate, or with nothing.
func (g *Guard) login(r *http.Request) (string, error) {
	if _, isToken := bearer(r.Header.Get("Authorization")); isToken {
		return "", errWrong // a token doesn't beget tokens
	}
	who, err := g.identify(r)
	return who.name, err
}

// form is who asks by POST.
func (g *Guard) form(w http.ResponseWriter, r *http.Request) (string, url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return "", nil, badRequest("the form can't be read: " + err.Error())
	}
	args := r.PostForm
	switch args.Get("grant_type") {
	case "password":
		if g.users == nil {
			return "", args, errWrong
		}
		name := args.Get("username")
		return name, args, g.users.check(r.Context(), name, args.Get("password"))
	case "refresh_token":
		c, err := g.own.read(args.Get("refresh_token"))
		if err != nil || !c.Refresh || !g.current(c) {
			return "", args, errWrong
		}
		return c.Subject, args, nil
	}
	return "", args, badRequest("grant_type is neither password nor refresh_token")
}

// answer is a token, under the names of both forms.
type answer struct {
	Token       string    `json:"token"`
	AccessToken string    `json:"access_token"`
	ExpiresIn   int       `json:"expires_in"` // seconds
	IssuedAt    time.Time `json:"issued_at"`
	Scope       string    `json:"scope,omitempty"`
	Refresh     string    `json:"refresh_token,omitempty"`
}

// grant issues what the rules allow of what is asked for, which may be nothing.
func (g *Guard) grant(w http.ResponseWriter, r *http.Request, who string, args url.Values) error {
	if s := args.Get("service"); s != "" && s != g.cfg.Service {
		return badRequest(fmt.Sprintf("service %.100q is not this one, which is %q", s, g.cfg.Service))
	}
	wanted, err := parseScopes(args["scope"])
	if err != nil {
		return err
	}
	c := claims{Claims: jwt.Claims{Subject: who}, Access: g.narrow(who, wanted), Pin: g.users.pin(who)}
	out := answer{ExpiresIn: int(g.cfg.TokenLife / time.Second), IssuedAt: time.Now().UTC()}
	if out.Token, err = g.own.issue(c, g.cfg.TokenLife); err != nil {
		return err
	}
	out.AccessToken = out.Token
	for _, a := range c.Access {
		out.Scope = strings.TrimSpace(out.Scope + " " + a.Type + ":" + a.Name + ":" + strings.Join(a.Actions, ","))
	}
	if c.Pin != "" && (args.Get("offline_token") == "true" || args.Get("access_type") == "offline") {
		keep := claims{Claims: jwt.Claims{Subject: who}, Pin: c.Pin, Refresh: true}
		if out.Refresh, err = g.own.issue(keep, refreshLife); err != nil {
			return err
		}
	} else if args.Get("grant_type") == "refresh_token" {
		out.Refresh = args.Get("refresh_token")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	return json.NewEncoder(w).Encode(out)
}

// parseScopes reads type:name:action,action lists joined by blanks; a type may carry
// a class in parentheses, which means nothing here.
func parseScopes(texts []string) (grants, error) {
	var out grants
	for _, text := range strings.Fields(strings.Join(texts, " ")) {
		first, last := strings.IndexByte(text, ':'), strings.LastIndexByte(text, ':')
		if first <= 0 || last <= first {
			return nil, badRequest(fmt.Sprintf("scope %.100q is no type:name:actions", text))
		}
		kind, _, _ := strings.Cut(text[:first], "(")
		actions := strings.Split(text[last+1:], ",")
		if len(out) >= maxScopes || len(actions) > maxActions {
			return nil, badRequest("too much is asked for at once")
		}
		out = append(out, grant{kind, text[first+1 : last], actions})
	}
	return out, nil
}

// narrow leaves what the rules allow a name.
func (g *Guard) narrow(who string, wanted grants) grants {
	out := grants{}
	for _, w := range wanted {
		got := grant{w.Type, w.Name, nil}
		switch {
		case w.Type == "registry" && w.Name == "catalog" && slices.Contains(w.Actions, every):
			got.Actions = []string{every}
		case w.Type == "repository":
			for _, a := range []registry.Action{registry.Pull, registry.Push, registry.Delete} {
				asked := slices.Contains(w.Actions, string(a)) || slices.Contains(w.Actions, every)
				if asked && g.rules.may(who, registry.Access{Repository: w.Name, Action: a}) {
					got.Actions = append(got.Actions, string(a))
				}
			}
		}
		if len(got.Actions) > 0 {
			out = append(out, got)
		}
	}
	return out
}
