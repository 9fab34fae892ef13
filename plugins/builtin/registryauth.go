package builtin

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/access"
)

// registryAuth is how the registry finds out who somebody is.
type registryAuth struct {
	// Htpasswd is a file of name:hash lines with bcrypt hashes (htpasswd -B). It is
	// read again when it changes.
	Htpasswd string `toml:"htpasswd"`
	// ClientCA is a file of authorities (PEM) whose client certificates are taken;
	// the common name is who somebody is.
	ClientCA string `toml:"client_ca"`
	// Challenge is what clients are asked for: token or basic.
	Challenge string `toml:"challenge"`
	// URL is where clients reach the registry, such as https://registry.example.com,
	// if a proxy stands before it that ends TLS.
	URL string `toml:"url"`
	// Service names the registry in its tokens; empty is orlop-registry.
	Service string `toml:"service"`
	// TokenLife is how long a token is good, 1m to 24h.
	TokenLife string `toml:"token_life"`
	// Issuers are other token servers that are believed.
	Issuers []access.Issuer `toml:"issuers"`
}

// What clients are asked for.
const (
	challengeToken = "token"
	challengeBasic = "basic"
)

func (a registryAuth) config(rights []access.Right, root string) (access.Config, error) {
	life, err := time.ParseDuration(a.TokenLife)
	if err != nil {
		return access.Config{}, fmt.Errorf("auth.token_life: %q is no time such as 5m", a.TokenLife)
	}
	if a.Challenge != challengeToken && a.Challenge != challengeBasic {
		return access.Config{}, fmt.Errorf("auth.challenge: %q is neither token nor basic", a.Challenge)
	}
	return access.Config{Users: a.Htpasswd, Certificates: a.ClientCA != "", Key: filepath.Join(root, "token.key"), Basic: a.Challenge == challengeBasic,
		URL: a.URL, Service: a.Service, TokenLife: life, Issuers: a.Issuers, Rights: rights}, nil
}

// registryGuard is who decides; nil is nobody.
type registryGuard struct{ *access.Guard }

func (c *registryConfig) guard(root string) (registryGuard, error) {
	if c.Auth.Htpasswd == "" && c.Auth.ClientCA == "" && len(c.Auth.Issuers) == 0 && len(c.Rights) == 0 {
		return registryGuard{}, nil
	}
	cfg, err := c.Auth.config(c.Rights, root)
	if err != nil {
		return registryGuard{}, err
	}
	g, err := access.New(cfg)
	return registryGuard{g}, err
}

func (g registryGuard) authorizer() registry.Authorizer {
	if g.Guard == nil {
		return nil
	}
	return g.Guard
}

// mux adds the token endpoint to the registry. Paths are not cleaned: the registry
// says itself what is wrong with them.
func (g registryGuard) mux(reg http.Handler) http.Handler {
	if g.Guard == nil {
		return reg
	}
	tokens := g.Tokens()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == access.TokenPath {
			tokens.ServeHTTP(w, r)
			return
		}
		reg.ServeHTTP(w, r)
	})
}

// paged adds the pages, if they are wanted.
func (c *registryConfig) paged(reg *registry.Registry) http.Handler {
	if !c.UI {
		return reg.Handler()
	}
	api, pages := reg.Handler(), reg.Pages()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, registry.PagePath) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
