package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWriteResolv: a resolv.conf follows the host until somebody edits it, and a file
// that a killed daemon has left half written is no edit.
func TestWriteResolv(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, resolvFile)
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text, want string) {
		t.Helper()
		if err := writeResolv(dir, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != want {
			t.Errorf("%q, %v, want %q", have, err, want)
		}
	}
	put("of a daemon that kept no sums")
	write("one", "one")
	write("one", "one")
	write("two", "two")
	put("") // truncated, not yet written
	write("three", "three")
	write("two", "two")
	put("three") // sums written, the file not yet
	write("five", "five")
	put("mine")
	write("four", "mine")
	put("five") // as it was
	write("four", "four")
}
