package seccomp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Profile is a configuration with its translation. Hosts use few, and each is
// large: equal ones are one Profile, parsed and compiled once.
type Profile struct {
	// Config is what was written; it is shared and must not be changed.
	Config *specs.LinuxSeccomp

	raw     []byte
	compile func() (*Program, error)
}

// maxCached bounds the cache: more profiles than this on a host are a mistake
// or an attack.
const maxCached = 64

var cache struct {
	mu sync.Mutex
	m  map[string]*Profile
}

// Parse returns the profile that JSON describes; nil for none.
func Parse(raw []byte) (*Profile, error) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	cache.mu.Lock()
	p := cache.m[string(raw)]
	cache.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p = &Profile{Config: &specs.LinuxSeccomp{}, raw: bytes.Clone(raw)}
	if err := json.Unmarshal(raw, p.Config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p.compile = sync.OnceValues(func() (*Program, error) { return compile(p.Config, runtime.GOARCH) })
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if cache.m == nil || len(cache.m) >= maxCached {
		cache.m = map[string]*Profile{}
	}
	cache.m[string(raw)] = p
	return p, nil
}

// ProfileOf returns the profile of a configuration; nil for none.
func ProfileOf(c *specs.LinuxSeccomp) (*Profile, error) {
	if c == nil {
		return nil, nil
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return Parse(raw)
}

// Compile translates the profile for this machine.
func (p *Profile) Compile() (*Program, error) { return p.compile() }

// MarshalJSON implements json.Marshaler: it gives back what was parsed.
func (p *Profile) MarshalJSON() ([]byte, error) { return p.raw, nil }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Profile) UnmarshalJSON(raw []byte) error {
	same, err := Parse(raw)
	if err == nil && same != nil {
		*p = *same
	}
	return err
}
