package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
)

func withLease(ctx context.Context, id string) context.Context { return leases.WithLease(ctx, id) }

// private is a snapshotter whose calls are all in one namespace: the suite wants
// an empty snapshotter and says "testsuite" each time.
type private struct {
	snapshots.Snapshotter
	ns string
}

func (p private) in(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, p.ns) }

func (p private) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return p.Snapshotter.Stat(p.in(ctx), key)
}

func (p private) Update(ctx context.Context, info snapshots.Info, paths ...string) (snapshots.Info, error) {
	return p.Snapshotter.Update(p.in(ctx), info, paths...)
}

func (p private) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return p.Snapshotter.Usage(p.in(ctx), key)
}

func (p private) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return p.Snapshotter.Mounts(p.in(ctx), key)
}

func (p private) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return p.Snapshotter.Prepare(p.in(ctx), key, parent, opts...)
}

func (p private) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return p.Snapshotter.View(p.in(ctx), key, parent, opts...)
}

func (p private) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return p.Snapshotter.Commit(p.in(ctx), name, key, opts...)
}

func (p private) Remove(ctx context.Context, key string) error {
	return p.Snapshotter.Remove(p.in(ctx), key)
}

func (p private) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return p.Snapshotter.Walk(p.in(ctx), fn, filters...)
}

func suite(t *testing.T, name, dir string) {
	conn := daemon(t, dir, "")
	testsuite.SnapshotterSuite(t, name, snapshotter(conn, name))
}

func snapshotter(conn *grpc.ClientConn, name string) testsuite.SnapshotterFunc {
	return func(context.Context, string) (snapshots.Snapshotter, func() error, error) {
		p := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), name)
		return private{p, fmt.Sprintf("suite-%d", counter.Add(1))}, nil, nil
	}
}

func TestOverlayfs(t *testing.T) {
	t.Run("suite", func(t *testing.T) { suite(t, "overlayfs", t.TempDir()) })
}
func TestNative(t *testing.T) { t.Run("suite", func(t *testing.T) { suite(t, "native", t.TempDir()) }) }

func TestEROFS(t *testing.T) {
	if data, _ := os.ReadFile("/proc/filesystems"); !strings.Contains(string(data), "erofs") {
		exec.Command("modprobe", "erofs").Run()
		if data, _ := os.ReadFile("/proc/filesystems"); !strings.Contains(string(data), "erofs") {
			t.Skip("the kernel has no EROFS")
		}
	}
	t.Run("suite", func(t *testing.T) { suite(t, "erofs", t.TempDir()) })
}

func TestBtrfs(t *testing.T) {
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 512<<20), os.Mkdir(at, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no btrfs here: %v: %v %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	t.Run("suite", func(t *testing.T) { suite(t, "btrfs", at) })
}
