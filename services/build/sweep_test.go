package build

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
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

// leases are some of which one is ended.
type leases struct {
	lease.Manager
	list  []lease.Lease
	ended []string
}

func (l *leases) List(ctx context.Context, _ ...string) ([]lease.Lease, error) {
	if ns, err := namespaces.Required(ctx); ns != "default_history" {
		return nil, err
	}
	return l.list, nil
}

func (l *leases) Delete(_ context.Context, id string, _ bool) error {
	l.ended = append(l.ended, id)
	return nil
}

// A lease of a past build ends if a killed daemon has made no record of it.
func TestSweepHistory(t *testing.T) {
	past, err := bolt.Open(filepath.Join(t.TempDir(), "history.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	all := &leases{list: []lease.Lease{{ID: "ref_kept"}, {ID: "ref_lost"}, {ID: "other"}}}
	err = past.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(historyBucket))
		if err != nil {
			return err
		}
		return b.Put([]byte("kept"), []byte("record"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sweepHistory(t.Context(), past, all); err != nil || !slices.Equal(all.ended, []string{"ref_lost"}) {
		t.Errorf("ended %v, %v", all.ended, err)
	}
}
