package userns_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/userns"
)

var maps = userns.Maps{
	UIDs: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}},
	GIDs: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 1000}},
}

func TestNew(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it maps ids of others")
	}
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			n, err := userns.New(maps, true)
			if err != nil {
				t.Error(err)
				return
			}
			defer n.Close()
			owner, err := unix.IoctlRetInt(int(n.Network.Fd()), unix.NS_GET_USERNS)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(owner)
			if !same(t, owner, int(n.User.Fd())) {
				t.Error("the network namespace is not the user namespace's")
			}
		})
	}
	work.Wait()
	n, err := userns.New(maps, false)
	if err != nil || n.Network != nil {
		t.Fatal(n, err)
	}
	defer n.Close()
	if children := children(t); children != 0 {
		t.Errorf("%d children are left", children)
	}
	if _, err := userns.New(userns.Maps{UIDs: []specs.LinuxIDMapping{{Size: 10}, {Size: 10}}, GIDs: maps.GIDs}, false); err == nil {
		t.Error("ids that are mapped twice are no error")
	}
}

func same(t *testing.T, a, b int) bool {
	var x, y unix.Stat_t
	if err := unix.Fstat(a, &x); err != nil {
		t.Error(err)
	}
	if err := unix.Fstat(b, &y); err != nil {
		t.Error(err)
	}
	return x.Ino == y.Ino
}

// children counts this process's.
func children(t *testing.T) (n int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		data, _ := os.ReadFile(name)
		if _, rest, ok := strings.Cut(string(data), ") "); ok && strings.Fields(rest)[1] == strconv.Itoa(os.Getpid()) {
			n++
		}
	}
	return n
}
