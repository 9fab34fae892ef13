package namespace_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/networktest"
)

func inode(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestDo: everything within is there, and everything after is back, whatever threads
// the scheduler takes.
func TestDo(t *testing.T) {
	home := inode(t)
	var work sync.WaitGroup
	for range 4 {
		p := networktest.NewPlace(t)
		there, err := p.NS.Inode()
		if err != nil || there == home {
			t.Fatal(there, home, err)
		}
		for range 8 {
			work.Go(func() {
				for range 50 {
					if err := p.NS.Do(func() error { runtime.Gosched(); return same(t, there) }); err != nil {
						t.Error(err)
					}
					if err := same(t, home); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	work.Wait()
}

func same(t *testing.T, want uint64) error {
	if inode(t) != want {
		return errdefs.ErrInternal
	}
	return nil
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := namespace.Open(filepath.Join(dir, "not")); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, fifo, dir, "/proc/self/ns/mnt", "/dev/null"} {
		if _, err := namespace.Open(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSysctl(t *testing.T) {
	p := networktest.NewPlace(t)
	err := p.NS.Do(func() error { return namespace.Sysctl("ipv4/ip_forward", "1", false) })
	if err != nil || p.Run("cat /proc/sys/net/ipv4/ip_forward") != "1\n" {
		t.Error(err)
	}
	if err := namespace.Sysctl("ipv4/no_such_thing", "1", true); err != nil {
		t.Error(err)
	}
	if err := namespace.Sysctl("ipv4/no_such_thing", "1", false); err == nil {
		t.Error("what isn't there was set")
	}
}
