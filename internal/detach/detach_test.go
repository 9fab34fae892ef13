package detach

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	for _, c := range []struct {
		name, keys, in, out string
		detached            bool
	}{
		{"default", "", "hi\x10\x11more", "hi", true},
		{"none", "", "hi\x10x\x11", "hi\x10x\x11", false},
		{"begun again", "", "\x10\x10\x11", "\x10", true},
		{"unfinished at the end", "", "hi\x10", "hi\x10", false},
		{"own", "ctrl-a,b", "ab\x01b", "ab", true},
		{"one key", "x", "abxc", "ab", true},
	} {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			r, err := Reader(wrap(strings.NewReader(c.in)), c.keys)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if string(got) != c.out || errors.Is(err, Err) != c.detached {
				t.Errorf("%s, %s: got %q, %v", c.name, kind, got, err)
			}
		}
	}
}

func TestBadDetachKeys(t *testing.T) {
	for _, keys := range []string{"ctrl-", "ctrl-ab", "ab", "a,,b", "ctrl-1"} {
		if err := Check(keys); err == nil {
			t.Errorf("%q was accepted", keys)
		}
	}
}
