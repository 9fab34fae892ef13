// Package access decides who may do what with a registry.
//
// # Who somebody is
//
// A name comes from an htpasswd file (Basic), from a token of the registry's own
// token endpoint (Bearer), from a token of an external issuer, or from the common
// name of a TLS client certificate. Whoever shows none of them is anonymous; whoever
// shows one that is wrong is refused, and never becomes anonymous.
//
// # What they may do
//
// [Right] rules say it, by name and by pattern of repositories. A token can only
// narrow that: one that was issued for a repository is worth nothing at another, and
// a right that is taken away is gone at once, whatever tokens are out.
//
// # Answers
//
// Who might get further with other credentials gets 401 with a challenge, who is
// known and may not gets 403. Passwords are compared in constant time, bcrypt runs
// for at most as many requests at once as there are processors, and successes are
// remembered for a minute.
//
// Everything is safe for concurrent use. Nothing is kept but the key that signs
// tokens.
package access

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/orlop/orlop/services/registry"
)

// Config says who may do what.
type Config struct {
	// Users is an htpasswd file with bcrypt hashes; empty is none. It is read again
	// when it changes.
	Users string
	// Certificates takes the common name of a verified client certificate as a name.
	Certificates bool
	// Key is the file of the secret that signs tokens; it is made if it isn't there.
	Key string
	// Basic asks for passwords with each request instead of for tokens.
	Basic bool
	// URL is where clients reach the registry, such as https://registry.example.com,
	// if that isn't what their requests say.
	URL string
	// Service names the registry in tokens; empty is [DefaultService].
	Service string
	// TokenLife is how long a token is good; 0 is [DefaultTokenLife].
	TokenLife time.Duration
	// Issuers are other token servers that are believed.
	Issuers []Issuer
	// Rights are the rules. Without any, everybody with a name may do everything.
	Rights []Right
}

// Defaults and bounds.
const (
	DefaultService   = "orlop-registry"
	DefaultTokenLife = 5 * time.Minute
	minTokenLife     = time.Minute // clients take that for granted
	maxTokenLife     = 24 * time.Hour
	refreshLife      = 90 * 24 * time.Hour
)

// Guard is the decision. It is a [registry.Authorizer].
type Guard struct {
	cfg     Config
	users   *users // nil: no file
	rules   rules
	own     *signer
	issuers []*issuer
}

// New reads the files that the config names.
func New(cfg Config) (*Guard, error) {
	if cfg.Service == "" {
		cfg.Service = DefaultService
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = DefaultTokenLife
	}
	if cfg.TokenLife < minTokenLife || cfg.TokenLife > maxTokenLife {
		return nil, fmt.Errorf("token_life: %v is not between %v and %v", cfg.TokenLife, minTokenLife, maxTokenLife)
	}
	g := &Guard{cfg: cfg}
	var err error
	if g.rules, err = parseRules(cfg.Rights); err != nil {
		return nil, err
	}
	if cfg.Users != "" {
		if g.users, err = openUsers(cfg.Users); err != nil {
			return nil, err
		}
	}
	for _, i := range cfg.Issuers {
		is, err := openIssuer(i)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", i.Name, err)
		}
		g.issuers = append(g.issuers, is)
	}
	if g.open() {
		return g, nil
	}
	g.own, err = openSigner(cfg)
	return g, err
}

// open tells that nobody can show who they are.
func (g *Guard) open() bool { return g.users == nil && !g.cfg.Certificates && len(g.issuers) == 0 }

// caller is who asks and what their credentials allow beside the rules.
type caller struct {
	name string // empty is anonymous
	// token says that they came with one, which is for what claims name; of an issuer
	// that leaves the decision to the rules, it is for all.
	token, unbound bool
	claims         grants
	// outside says that the claims come from an issuer that decides by itself.
	outside bool
}

var errWrong = errors.New("the credentials are wrong or have expired")

// identify finds out who asks.
func (g *Guard) identify(r *http.Request) (caller, error) {
	header := r.Header.Get("Authorization")
	if name, password, ok := r.BasicAuth(); ok {
		if g.users == nil {
			return caller{}, errWrong
		}
		return caller{name: name}, g.users.check(r.Context(), name, password)
	}
	if token, ok := bearer(header); ok {
		return g.believe(token)
	}
	if header != "" {
		return caller{}, errWrong
	}
	return caller{name: g.certified(r)}, nil
}

// certified is the name of a verified client certificate.
func (g *Guard) certified(r *http.Request) string {
	if !g.cfg.Certificates || r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName
}

// Authorize is [registry.Authorizer]'s.
func (g *Guard) Authorize(r *http.Request, needs ...registry.Access) (registry.Identity, error) {
	who, err := g.identify(r)
	if errors.Is(err, errWrong) {
		return registry.Identity{}, g.challenge(r, needs, "invalid_token", err.Error())
	}
	if err != nil {
		return registry.Identity{}, err
	}
	for _, need := range needs {
		if err := g.allow(r, who, need, needs); err != nil {
			return registry.Identity{}, err
		}
	}
	return registry.Identity{Name: who.name, May: func(a registry.Access) bool { return g.may(who, a) }}, nil
}

// allow says why one need can't be met, if so.
func (g *Guard) allow(r *http.Request, who caller, need registry.Access, all []registry.Access) error {
	if need == (registry.Access{}) { // the registry itself: where clients find out how to log in
		if who.name == "" && !who.token && !g.open() {
			return g.challenge(r, nil, "", "log in first")
		}
		return nil
	}
	switch {
	case g.may(who, need):
		return nil
	case who.token && (who.outside || g.rules.may(who.name, need)):
		return g.challenge(r, all, "insufficient_scope", "the token is not for "+describe(need))
	case who.name == "" && !g.open():
		return g.challenge(r, all, "", "log in to "+describe(need))
	}
	name := who.name
	if name == "" {
		name = "nobody in particular"
	}
	return registry.Denied("%s may not %s", name, describe(need))
}

func describe(a registry.Access) string {
	if a.Catalog {
		return "list the repositories"
	}
	verb := map[registry.Action]string{registry.Pull: "pull from", registry.Push: "push to", registry.Delete: "delete from"}[a.Action]
	return verb + " repository " + a.Repository
}

// may tells whether a caller may do something.
func (g *Guard) may(who caller, a registry.Access) bool {
	shown := a.Catalog && a.Repository != ""
	if shown { // a name in the catalog is for those who may pull
		a = registry.Access{Repository: a.Repository, Action: registry.Pull}
	}
	bound := who.token && !who.unbound && (!shown || who.outside)
	if bound && !who.claims.allow(a) {
		return false
	}
	return who.outside || g.rules.may(who.name, a)
}
