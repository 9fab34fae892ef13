package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer is another token server that is believed.
type Issuer struct {
	// Name stands before the names in its tokens, with a colon: ci:build-7.
	Name string `toml:"name"`
	// Issuer is what its tokens say in iss.
	Issuer string `toml:"issuer"`
	// Audience is what they say in aud.
	Audience string `toml:"audience"`
	// Keys is a file of its public keys: PEM, or a JSON Web Key set.
	Keys string `toml:"keys"`
	// Realm is the address where clients get its tokens; empty is none that
	// clients are sent to.
	Realm string `toml:"realm"`
	// Access believes what its tokens say in access, in the form of Docker's token
	// specification, instead of asking the rules.
	Access bool `toml:"access"`
}

// Bounds of keys.
const (
	maxKeys  = 1 << 20 // bytes
	minRSA   = 2048    // bits: NIST SP 800-131A
	maxTries = 32      // keys of one issuer
)

// algorithms are those whose verifier can't sign: a public key must never serve as a
// shared secret.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

type issuer struct {
	Issuer
	keys []key
}

type key struct {
	id     string
	public any
}

func openIssuer(cfg Issuer) (*issuer, error) {
	if cfg.Name == "" || cfg.Issuer == "" || cfg.Audience == "" || cfg.Keys == "" {
		return nil, errors.New("name, issuer, audience and keys are all needed")
	}
	f, err := os.Open(cfg.Keys)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeys))
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Keys, err)
	}
	return &issuer{cfg, keys}, nil
}

// readKeys reads public keys, and nothing else.
func readKeys(data []byte) (out []key, err error) {
	if data = bytes.TrimSpace(data); bytes.HasPrefix(data, []byte("{")) {
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(data, &set); err != nil {
			return nil, err
		}
		for _, k := range set.Keys {
			out = append(out, key{k.KeyID, k.Key})
		}
	} else if out, err = readPEM(data); err != nil {
		return nil, err
	}
	if len(out) == 0 || len(out) > maxTries {
		return nil, fmt.Errorf("there are %d keys, 1 to %d are needed", len(out), maxTries)
	}
	for i, k := range out {
		if err := checkKey(k.public); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return out, nil
}

func readPEM(data []byte) (out []key, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var public any
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = cert.PublicKey
			}
		default:
			err = fmt.Errorf("a PEM block of type %.50q is no public key", block.Type)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, key{public: public})
	}
	return out, nil
}

func checkKey(public any) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Errorf("RSA with %d bits is too short, %d are needed", k.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a %T is no public key that tokens are verified with", public)
	}
	return nil
}

// said is what a token of an issuer says.
type said struct {
	jwt.Claims
	Access grants `json:"access"`
}

// read verifies a token of the issuer. Keys and certificates in its header mean
// nothing.
func (i *issuer) read(text string) (caller, error) {
	if len(text) > maxToken {
		return caller{}, errWrong
	}
	t, err := jwt.ParseSigned(text, algorithms)
	if err != nil || len(t.Headers) != 1 {
		return caller{}, errWrong
	}
	for _, k := range i.keys {
		if id := t.Headers[0].KeyID; id != "" && k.id != "" && id != k.id {
			continue
		}
		var s said
		if t.Claims(k.public, &s) == nil {
			return i.accept(s)
		}
	}
	return caller{}, errWrong
}

func (i *issuer) accept(s said) (caller, error) {
	if s.Expiry == nil || s.Subject == "" && !i.Access {
		return caller{}, errWrong
	}
	if s.ValidateWithLeeway(jwt.Expected{Issuer: i.Issuer.Issuer, AnyAudience: jwt.Audience{i.Audience}}, leeway) != nil {
		return caller{}, errWrong
	}
	who := caller{token: true, outside: i.Access, unbound: !i.Access, claims: s.Access}
	if s.Subject != "" {
		who.name = i.Name + ":" + s.Subject
	}
	return who, nil
}
