// Package detach watches what a person types for the keys that detach a terminal from
// a container.
package detach

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

// Err says that a client has typed the keys that detach it.
var Err = errors.New("read escape sequence")

// defaultDetach are ctrl-p, ctrl-q.
var defaultDetach = []byte{16, 17}

// controls are the keys that are typed with ctrl and a sign.
const controls = "@abcdefghijklmnopqrstuvwxyz[\\]^_"

// parseKeys reads keys such as ctrl-p,ctrl-q,x.
func parseKeys(text string) ([]byte, error) {
	if text == "" {
		return defaultDetach, nil
	}
	var out []byte
	for _, key := range strings.Split(text, ",") {
		control, ctrl := strings.CutPrefix(key, "ctrl-")
		switch {
		case ctrl && len(control) == 1 && strings.Contains(controls, control):
			out = append(out, byte(strings.Index(controls, control)))
		case len(key) == 1:
			out = append(out, key[0])
		default:
			return nil, fmt.Errorf("invalid escape keys (%s) provided: unknown key %q: %w", text, key, errdefs.ErrInvalidArgument)
		}
	}
	return out, nil
}

// Check tells whether keys can be read; empty is ctrl-p,ctrl-q.
func Check(text string) error {
	_, err := parseKeys(text)
	return err
}

// escapes reads until the keys come one after the other, whatever reads they are
// spread over. Keys that turn out not to be the whole sequence are passed on.
type escapes struct {
	r    io.Reader
	keys []byte
	held int    // how many keys of the sequence have been read
	out  []byte // to be handed out
	err  error
}

// Reader reads until the keys are typed, which ends it with [Err].
func Reader(r io.Reader, text string) (io.Reader, error) {
	keys, err := parseKeys(text)
	return &escapes{r: r, keys: keys}, err
}

// Read implements io.Reader.
func (e *escapes) Read(p []byte) (int, error) {
	for len(e.out) == 0 && e.err == nil {
		n, err := e.r.Read(p)
		e.err = err
		e.take(p[:n])
		if e.err != nil && !errors.Is(e.err, Err) {
			e.out = append(e.out, e.keys[:e.held]...)
			e.held = 0
		}
	}
	if len(e.out) == 0 {
		return 0, e.err
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	return n, nil
}

// take sorts what was read into keys of the sequence and the rest.
func (e *escapes) take(b []byte) {
	for _, c := range bytes.Clone(b) {
		if c == e.keys[e.held] {
			if e.held++; e.held == len(e.keys) {
				e.held, e.err = 0, Err
				return
			}
			continue
		}
		e.out = append(e.out, e.keys[:e.held]...)
		e.held = 0
		if c == e.keys[0] && len(e.keys) > 1 {
			e.held = 1
			continue
		}
		e.out = append(e.out, c)
	}
}
