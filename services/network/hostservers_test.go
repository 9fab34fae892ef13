package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHostServers: the host's servers are those of its files now, however these are
// changed, and the files are read when they have changed alone.
func TestHostServers(t *testing.T) {
	old := resolvFiles
	defer func() { resolvFiles = old }()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	resolvFiles = []string{first, second}
	write := func(path, server string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age := func(path string) {
		t.Helper()
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	var h hostServers
	want := func(want string) {
		t.Helper()
		have := ""
		for _, s := range h.get() {
			have = strings.TrimSpace(have + " " + s.Address.Addr().String())
			if s.Spare {
				have += "?"
			}
		}
		if have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
	want("")
	write(first, "10.0.0.1")
	want("10.0.0.1")
	write(first, "10.0.0.2") // at once, and of the same size
	want("10.0.0.2")
	write(filepath.Join(dir, "new"), "10.0.0.3")
	if err := os.Rename(filepath.Join(dir, "new"), first); err != nil {
		t.Fatal(err)
	}
	want("10.0.0.3")
	write(first, "127.0.0.1")
	write(second, "10.0.0.4")
	want("127.0.0.1 10.0.0.4?")
	age(first)
	age(second)
	want("127.0.0.1 10.0.0.4?")
	at := h.at
	want("127.0.0.1 10.0.0.4?")
	if h.at != at {
		t.Error("read again, and nothing has changed")
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	want("127.0.0.1")
}
