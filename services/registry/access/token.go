package access

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/orlop/orlop/services/registry"
)

// Bounds of tokens.
const (
	keySize  = 32               // bytes
	maxToken = 16 << 10         // bytes
	leeway   = 30 * time.Second // of others' clocks
)

// grant is what a token allows of one resource, in the form of Docker's token
// specification.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type grants []grant

// allow tells whether a token is for something.
func (gs grants) allow(a registry.Access) bool {
	return slices.ContainsFunc(gs, func(g grant) bool {
		if a.Catalog {
			return g.Type == "registry" && g.Name == "catalog" && slices.Contains(g.Actions, every)
		}
		return g.Type == "repository" && g.Name == a.Repository &&
			(slices.Contains(g.Actions, string(a.Action)) || slices.Contains(g.Actions, every))
	})
}

// claims are what the registry's own tokens say beside the registered claims.
type claims struct {
	jwt.Claims
	Access grants `json:"access,omitempty"`
	// Pin ties the token to the password that it was issued for.
	Pin string `json:"pin,omitempty"`
	// Refresh marks one that is only good at the token endpoint.
	Refresh bool `json:"refresh,omitempty"`
}

// signer makes and reads the registry's own tokens.
type signer struct {
	key     []byte
	service string
	make    jose.Signer
}

func openSigner(cfg Config) (*signer, error) {
	key, err := secret(cfg.Key)
	if err != nil {
		return nil, err
	}
	s := &signer{key: key, service: cfg.Service}
	s.make, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	return s, err
}

// secret reads the key, or makes one; without a file it lives as long as the process.
func secret(path string) ([]byte, error) {
	key := make([]byte, keySize)
	if path == "" {
		rand.Read(key)
		return key, nil
	}
	old, err := os.ReadFile(path)
	if err == nil && len(old) == keySize {
		return old, nil
	}
	if err == nil {
		return nil, fmt.Errorf("%s has %d bytes, a key has %d: remove it, and tokens that are out end", path, len(old), keySize)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rand.Read(key)
	return key, store(path, key)
}

// store writes a new file so that it is whole or not there.
func store(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (s *signer) issue(c claims, life time.Duration) (string, error) {
	now := time.Now()
	c.Issuer, c.Audience = s.service, jwt.Audience{s.service}
	c.IssuedAt, c.NotBefore, c.Expiry = jwt.NewNumericDate(now), jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(life))
	return jwt.Signed(s.make).Claims(c).Serialize()
}

// read verifies a token of this registry.
func (s *signer) read(text string) (claims, error) {
	var c claims
	if len(text) > maxToken {
		return c, errWrong
	}
	// The algorithm is fixed here and not the token's to choose.
	t, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return c, errWrong
	}
	if t.Claims(s.key, &c) != nil || c.Expiry == nil {
		return c, errWrong
	}
	if c.ValidateWithLeeway(jwt.Expected{Issuer: s.service, AnyAudience: jwt.Audience{s.service}}, 0) != nil {
		return c, errWrong
	}
	return c, nil
}

func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// believe finds out what a token is worth: first whether it is the registry's own,
// then what the issuers say.
func (g *Guard) believe(text string) (caller, error) {
	if g.own == nil {
		return caller{}, errWrong
	}
	if c, err := g.own.read(text); err == nil {
		if c.Refresh || !g.current(c) {
			return caller{}, errWrong
		}
		return caller{name: c.Subject, token: true, claims: c.Access}, nil
	}
	for _, i := range g.issuers {
		if who, err := i.read(text); err == nil {
			return who, nil
		}
	}
	return caller{}, errWrong
}

// current tells whether the password that a token was issued for still stands.
func (g *Guard) current(c claims) bool {
	return subtle.ConstantTimeCompare([]byte(g.users.pin(c.Subject)), []byte(c.Pin)) == 1
}
