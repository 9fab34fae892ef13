package engine

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDetachable(t *testing.T) {
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
			r, err := detachable(wrap(strings.NewReader(c.in)), c.keys)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if string(got) != c.out || errors.Is(err, ErrDetached) != c.detached {
				t.Errorf("%s, %s: got %q, %v", c.name, kind, got, err)
			}
		}
	}
}

func TestBadDetachKeys(t *testing.T) {
	for _, keys := range []string{"ctrl-", "ctrl-ab", "ab", "a,,b", "ctrl-1"} {
		if err := CheckDetachKeys(keys); err == nil {
			t.Errorf("%q was accepted", keys)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"10m": 10 << 20, "1k": 1 << 10, "2g": 2 << 30, "512": 512, "10MB": 10 << 20, "-1": 0} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "m", "0", "-2", "10x", "1kk", "99999999999g"} {
		if _, err := parseSize(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{"": 15, "KILL": 9, "sigterm": 15, "9": 9, "RTMIN+3": 37, "SIGRTMIN+0": 34} {
		if got, err := parseSignal(text, "SIGTERM"); err != nil || int(got) != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"NOSUCH", "0", "65", "-1", "RTMIN+31"} {
		if _, err := parseSignal(text, "SIGTERM"); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestBind(t *testing.T) {
	for text, want := range map[string]string{
		"/a:/b": "rbind,rprivate", "/a:/b:ro": "ro,rbind,rprivate", "/a:/b:rw,rslave": "rbind,rslave", "/a:/b:z": "rbind,rprivate",
	} {
		m, err := bind(text)
		if got := strings.Join(m.Options, ","); err != nil || got != want || m.Source != "/a" || m.Destination != "/b" {
			t.Errorf("%s: got %+v, %v", text, m, err)
		}
	}
	for _, text := range []string{"/a", "/a:b", "/a:/", ":/b", "/a:/b:odd", "/a:/b:ro:x", "name:/b"} {
		if _, err := bind(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
