package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content/local"
	core "github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/testimage"
)

// startRegistry serves the large image by Debian's docker-registry on loopback,
// and returns the image's name.
func startRegistry(b *testing.B) string {
	b.Helper()
	for _, program := range []string{"docker-registry", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skip(err)
		}
	}
	dir, address := b.TempDir(), e2e.FreeAddress(b)
	e2e.Registry(b, address, filepath.Join(dir, "registry"))
	if err := testimage.WriteLarge(filepath.Join(dir, "layout")); err != nil {
		b.Fatal(err)
	}
	name := address + "/bench/large:latest"
	copied := exec.Command("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+filepath.Join(dir, "layout")+":latest", "docker://"+name)
	if out, err := copied.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return name
}

// BenchmarkPull is the daemon's puller, from a registry on loopback to layers
// that are on the disk and named. ORLOP_BENCH_DIR, if set, is where stores are
// made: a fresh file system, for ext4 that has just deleted many files is slow.
func BenchmarkPull(b *testing.B) {
	name := startRegistry(b)
	for driver, open := range drivers(b) {
		b.Run(driver, func(b *testing.B) {
			root, err := os.MkdirTemp(os.Getenv("ORLOP_BENCH_DIR"), "orlop-pull-")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(root)
			for i := 0; b.Loop(); i++ {
				pullOnce(b, filepath.Join(root, fmt.Sprint(i)), driver, open, name)
			}
		})
	}
}

func pullOnce(b *testing.B, root, driver string, open func(string) (snapshotters.Unpacker, error), name string) {
	b.Helper()
	blobs, err := local.Open(filepath.Join(root, "content"))
	if err != nil {
		b.Fatal(err)
	}
	d, err := open(filepath.Join(root, driver))
	if err != nil {
		b.Skip(err)
	}
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.DefaultConfig(),
		metadata.Backends{Content: blobs, Drivers: map[string]snapshotters.Driver{driver: d}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	u := unpack.New(unpack.DefaultConfig(), unpack.Stores{Content: db.Content(), Leases: db.Leases(), Layers: db.Layers, Snapshots: db.Snapshotter})
	p := pull.New(pull.DefaultConfig(), pull.Stores{Content: db.Content(), Leases: db.Leases(), Unpack: u})
	_, err = p.Pull(namespaces.With(context.Background(), "default"), pull.Request{
		Client: remote.New(remote.Config{}), Reference: name,
		Platforms: []ocispec.Platform{platforms.DefaultSpec()},
		Unpacks:   []unpack.Target{{Platform: platforms.DefaultSpec(), Snapshotter: driver}},
		Name: func(ctx context.Context, target ocispec.Descriptor) error {
			_, err := db.Images().Create(ctx, core.Image{Name: name, Target: target})
			return err
		},
	})
	if err != nil {
		b.Fatal(err)
	}
}
