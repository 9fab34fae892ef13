package access

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/crypto/bcrypt"
)

// Bounds of users and of checking their passwords.
const (
	maxUsers    = 1 << 20 // bytes of the file
	maxPassword = 72      // bytes: bcrypt reads no more
	lookEvery   = time.Second
	rememberFor = time.Minute
	maxRemember = 4096
)

// users are the names and hashes of an htpasswd file.
type users struct {
	path  string
	salt  [32]byte
	turns chan struct{} // one for each comparison at once
	dummy []byte        // what the passwords of unknown names are compared with

	mu     sync.Mutex // guards what is below
	hashes map[string][]byte
	seen   time.Time // when the file was looked at
	stamp  string    // of the file: time and size
	known  map[[32]byte]time.Time
}

func openUsers(path string) (*users, error) {
	u := &users{path: path, turns: make(chan struct{}, runtime.NumCPU())}
	rand.Read(u.salt[:])
	var err error
	if u.dummy, err = bcrypt.GenerateFromPassword(u.salt[:16], bcrypt.DefaultCost); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u, u.load()
}

// load reads the file if it has changed. The caller holds mu.
func (u *users) load() error {
	f, err := os.Open(u.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	stamp := fmt.Sprint(st.ModTime().UnixNano(), st.Size())
	if stamp == u.stamp {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxUsers+1))
	if err != nil {
		return err
	}
	if len(data) > maxUsers {
		return fmt.Errorf("%s is larger than %d bytes: %w", u.path, maxUsers, errdefs.ErrInvalidArgument)
	}
	hashes, err := parseUsers(data)
	if err != nil {
		return fmt.Errorf("%s: %w", u.path, err)
	}
	u.hashes, u.stamp, u.known = hashes, stamp, map[[32]byte]time.Time{}
	return nil
}

// parseUsers reads name:hash lines; # begins a comment.
func parseUsers(data []byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" || name == anyone || name == named {
			return nil, fmt.Errorf("line %d is no name:hash: %w", i+1, errdefs.ErrInvalidArgument)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("line %d: the hash of %q is not bcrypt's (make it with htpasswd -B): %w", i+1, name, errdefs.ErrInvalidArgument)
		}
		out[name] = []byte(hash)
	}
	return out, nil
}

// hash finds a name's, as the file has it now. A file that can't be read leaves
// things as they were.
func (u *users) hash(name string) ([]byte, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.seen) > lookEvery {
		u.seen = time.Now()
		if err := u.load(); err != nil {
			log.L.WithError(err).Warn("registry: users stay as they were")
		}
	}
	h, ok := u.hashes[name]
	return h, ok
}

// pin changes with a name's password; empty is an unknown name.
func (u *users) pin(name string) string {
	if u == nil {
		return ""
	}
	h, ok := u.hash(name)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(h)
	return hex.EncodeToString(sum[:8])
}

// check compares a password. It takes as long for a name that isn't there.
func (u *users) check(ctx context.Context, name, password string) error {
	hash, ok := u.hash(name)
	if !ok {
		hash = u.dummy
	}
	key := sha256.Sum256(bytes.Join([][]byte{u.salt[:], hash, []byte(name), []byte(password)}, []byte{0}))
	if u.remembers(key) {
		return nil
	}
	if len(password) > maxPassword {
		return errWrong
	}
	select {
	case u.turns <- struct{}{}:
		defer func() { <-u.turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !ok {
		return errWrong
	}
	u.remember(key)
	return nil
}

func (u *users) remembers(key [32]byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Now().Before(u.known[key])
}

func (u *users) remember(key [32]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= maxRemember {
		clear(u.known)
	}
	u.known[key] = time.Now().Add(rememberFor)
}
