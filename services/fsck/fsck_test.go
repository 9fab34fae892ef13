package fsck_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/fsck"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/native"
)

// rig is a store on a disk of its own: real backends, a real database.
type rig struct {
	t     *testing.T
	root  string
	blobs *local.Store
	trees *native.Driver
	db    *metadata.DB
	ctx   context.Context
	// registry is what Fetch finds, by repository.
	registry map[string][]byte
	down     bool
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, root: t.TempDir(), ctx: namespaces.With(t.Context(), "test"), registry: map[string][]byte{}}
	r.open()
	t.Cleanup(func() { r.db.Close() })
	return r
}

func (r *rig) open() {
	var err error
	r.blobs, err = local.Open(filepath.Join(r.root, "content"))
	r.must(err)
	r.trees, err = native.Open(filepath.Join(r.root, "native"))
	r.must(err)
	r.db, err = metadata.Open(filepath.Join(r.root, "meta.db"), metadata.DefaultConfig(), metadata.Backends{
		Content: r.blobs, Drivers: map[string]snapshotters.Driver{"native": r.trees}})
	r.must(err)
}

func (r *rig) reopen() {
	r.must(r.db.Close())
	r.open()
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) put(text string, labels map[string]string) ocispec.Descriptor {
	r.t.Helper()
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString(text), Size: int64(len(text))}
	r.must(content.WriteBlob(r.ctx, r.db.Content(), "put-"+text, strings.NewReader(text), desc, labels))
	return desc
}

// damage flips the blob's bytes on the disk, keeping its size.
func (r *rig) damage(dgst digest.Digest) {
	r.t.Helper()
	path := r.blobs.Path(dgst)
	data, err := os.ReadFile(path)
	r.must(err)
	data[0] ^= 0xff
	r.must(os.Chmod(path, 0o600))
	r.must(os.WriteFile(path, data, 0o444))
}

func (r *rig) snapshots() snapshotters.Snapshotter {
	s, err := r.db.Snapshotter("native")
	r.must(err)
	return s
}

func (r *rig) commit(name, parent string) {
	r.t.Helper()
	_, err := r.snapshots().Prepare(r.ctx, name+"-active", parent, nil)
	r.must(err)
	r.must(r.snapshots().Commit(r.ctx, name, name+"-active", nil))
}

func (r *rig) fetch(_ context.Context, host, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if r.down {
		return nil, errdefs.ErrUnavailable
	}
	data, ok := r.registry[host+"/"+repository]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// check returns the findings as "code id", with " mended" or " not mended".
func (r *rig) check(opts fsck.Options) []string {
	r.t.Helper()
	c := &fsck.Checker{DB: r.db, Blobs: r.blobs, Drivers: map[string]snapshotters.Driver{"native": r.trees}, Fetch: r.fetch}
	var out []string
	_, err := c.Check(r.t.Context(), opts, func(f *fsck.Finding, _ fsck.Progress) error {
		if f == nil {
			return nil
		}
		line := f.Code + " " + f.ID
		switch {
		case f.Repaired:
			line += " mended"
		case f.RepairErr != nil:
			line += " not mended"
		}
		out = append(out, line)
		return nil
	})
	r.must(err)
	return out
}

func (r *rig) want(opts fsck.Options, want ...string) {
	r.t.Helper()
	if got := r.check(opts); !slices.Equal(got, want) {
		r.t.Errorf("%+v finds\n\t%s\nwant\n\t%s", opts, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

var (
	look   = fsck.Options{}
	verify = fsck.Options{Verify: true}
	repair = fsck.Options{Verify: true, Repair: true}
)

func TestNothingIsWrong(t *testing.T) {
	r := newRig(t)
	desc := r.put("layer", nil)
	img := r.put("manifest", map[string]string{label.GCContent + ".0": desc.Digest.String()})
	_, err := r.db.Images().Create(r.ctx, image.Image{Name: "img", Target: img})
	r.must(err)
	r.commit("base", "")
	r.commit("top", "base")
	w, err := r.db.Content().Writer(r.ctx, content.WriterOptions{Ref: "under way"})
	r.must(err)
	defer w.Close()
	r.want(repair)
}

func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	r := newRig(t)
	desc := r.put("precious", map[string]string{label.DistributionFrom + "example.com": "gone,demo/box"})
	r.damage(desc.Digest)
	r.want(look) // sizes alone don't tell
	r.want(verify, "blob-corrupt "+desc.Digest.String())
	r.registry["example.com/demo/box"] = []byte("precious")
	r.want(repair, "blob-corrupt "+desc.Digest.String()+" mended")
	r.want(verify)
	r.must(content.Verify(r.ctx, r.db.Content(), desc.Digest))
}

// A registry that sends something else must not replace damage by damage.
func TestRegistryIsNotTrusted(t *testing.T) {
	r := newRig(t)
	desc := r.put("precious", map[string]string{label.DistributionFrom + "example.com": "demo/box"})
	r.damage(desc.Digest)
	r.registry["example.com/demo/box"] = []byte("preciouz")
	r.want(repair, "blob-corrupt "+desc.Digest.String()+" not mended")
	if _, err := r.db.Content().Info(r.ctx, desc.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("a blob that could not be mended still has a name: %v", err)
	}
}

// What can't be asked now may answer later.
func TestUnreachableRegistryLosesNothing(t *testing.T) {
	r := newRig(t)
	desc := r.put("precious", map[string]string{label.DistributionFrom + "example.com": "demo/box"})
	r.damage(desc.Digest)
	r.down = true
	r.want(repair, "blob-corrupt "+desc.Digest.String()+" not mended")
	r.down, r.registry["example.com/demo/box"] = false, []byte("precious")
	r.want(repair, "blob-corrupt "+desc.Digest.String()+" mended")
}

// containerd's label has no port; the image's name has.
func TestPortOfRegistry(t *testing.T) {
	r := newRig(t)
	desc := r.put("precious", map[string]string{label.DistributionFrom + "example.com": "demo/box"})
	_, err := r.db.Images().Create(r.ctx, image.Image{Name: "example.com:5000/demo/box:1", Target: desc})
	r.must(err)
	r.damage(desc.Digest)
	r.registry["example.com:5000/demo/box"] = []byte("precious")
	r.want(repair, "blob-corrupt "+desc.Digest.String()+" mended")
}

func TestBlobWithoutSourceLosesItsName(t *testing.T) {
	r := newRig(t)
	desc := r.put("mine", nil)
	r.must(os.Remove(r.blobs.Path(desc.Digest)))
	_, err := r.db.Images().Create(r.ctx, image.Image{Name: "img", Target: desc})
	r.must(err)
	r.want(look, "blob-missing "+desc.Digest.String())
	r.want(repair, "blob-missing "+desc.Digest.String()+" not mended")
	r.want(look, "image-dangling img")
	again := r.put("mine", nil) // the next pull brings it back
	r.must(content.Verify(r.ctx, r.db.Content(), again.Digest))
	r.want(verify)
}

func TestTruncatedBlob(t *testing.T) {
	r := newRig(t)
	desc := r.put("a long text", map[string]string{label.DistributionFrom + "example.com": "demo/box"})
	r.must(os.Truncate(r.blobs.Path(desc.Digest), 3))
	r.registry["example.com/demo/box"] = []byte("a long text")
	r.want(fsck.Options{Repair: true}, "blob-size "+desc.Digest.String()+" mended")
	r.want(verify)
}

func TestMissingSnapshot(t *testing.T) {
	r := newRig(t)
	r.commit("base", "")
	r.commit("top", "base")
	ids, err := r.trees.List(t.Context())
	r.must(err)
	slices.Sort(ids)
	r.must(r.trees.Remove(t.Context(), ids[0]))
	r.want(look, "snapshot-missing native/base")
	// A container's snapshot stands on it: nothing may be removed.
	_, err = r.snapshots().Prepare(r.ctx, "box", "top", nil)
	r.must(err)
	r.want(repair, "snapshot-missing native/base not mended")
	r.must(r.snapshots().Remove(r.ctx, "box"))
	r.want(repair, "snapshot-missing native/base mended")
	r.want(verify)
	if _, err := r.snapshots().Stat(r.ctx, "top"); !errdefs.IsNotFound(err) {
		t.Errorf("what stood on it is still there: %v", err)
	}
}

func TestOrphans(t *testing.T) {
	r := newRig(t)
	r.commit("base", "")
	r.reopen()
	// Older than this run: nobody can be making it.
	_, err := r.trees.Create(t.Context(), snapshotters.Storage{ID: "900", Kind: snapshotters.KindActive})
	r.must(err)
	text := "nobody's"
	desc := ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
	r.must(content.WriteBlob(t.Context(), r.blobs, "x", strings.NewReader(text), desc, nil))
	w, err := r.blobs.Writer(t.Context(), content.WriterOptions{Ref: "test/lost"})
	r.must(err)
	w.Close()
	r.must(os.Mkdir(filepath.Join(r.root, "content", "ingest", "half"), 0o700))
	r.want(repair, "blob-orphan "+desc.Digest.String()+" mended", "ingest-orphan test/lost mended", "ingest-torn half mended", "snapshot-orphan native/900 mended")
	r.want(verify)
	// Younger than this run: it may be a layer that is being unpacked.
	r.commit("more", "")
	ids, err := r.trees.List(t.Context())
	r.must(err)
	_, err = r.trees.Create(t.Context(), snapshotters.Storage{ID: "99999", Kind: snapshotters.KindActive})
	r.must(err)
	if len(ids) != 2 {
		t.Fatalf("IDs %v", ids)
	}
	r.want(repair, "snapshot-orphan native/99999 not mended")
}

func TestDangling(t *testing.T) {
	r := newRig(t)
	gone := r.put("gone", nil)
	m := r.put("manifest", map[string]string{label.GCContent + ".l.0": gone.Digest.String()})
	_, err := r.db.Images().Create(r.ctx, image.Image{Name: "img", Target: m})
	r.must(err)
	r.must(r.db.Content().Delete(r.ctx, gone.Digest))
	_, err = r.db.Containers().Create(r.ctx, container.Container{ID: "box", Snapshotter: "native", SnapshotKey: "none",
		Spec: &anypb.Any{TypeUrl: "spec", Value: []byte("{}")}, Runtime: container.Runtime{Name: "io.containerd.orlop.v1"}})
	r.must(err)
	_, err = r.db.Leases().Create(r.ctx, lease.Lease{ID: "l"})
	r.must(err)
	r.must(r.db.Leases().AddResource(r.ctx, "l", lease.Resource{ID: "none", Type: "snapshots/native"}))
	r.want(repair, "container-dangling box", "content-dangling "+m.Digest.String(), "lease-dangling l")
}

// Somebody who has seen enough ends the check.
func TestReportEndsCheck(t *testing.T) {
	r := newRig(t)
	for _, text := range []string{"a", "b"} {
		r.damage(r.put(text, nil).Digest)
	}
	enough := errors.New("enough")
	c := &fsck.Checker{DB: r.db, Blobs: r.blobs, Drivers: map[string]snapshotters.Driver{"native": r.trees}}
	n := 0
	_, err := c.Check(t.Context(), verify, func(*fsck.Finding, fsck.Progress) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%d reports, %v", n, err)
	}
}
