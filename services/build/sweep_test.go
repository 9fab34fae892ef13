package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestSweepForgotten(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"buildkit-mount1": hour, ".buildkit-ssh-sock1": hour, ".buildkit-ssh-sock2": time.Second, "buildkit-mount2": hour, "other": hour} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "buildkit-mount2" {
			if err := os.WriteFile(filepath.Join(path, "used"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepForgotten(dir, now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".buildkit-ssh-sock2", "buildkit-mount2", "other"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v (%v), want %v", left, err, want)
	}
}
