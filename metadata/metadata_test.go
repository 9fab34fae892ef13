package metadata_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/contenttest"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/snapshotters"
)

// memory is a driver that keeps only which IDs exist: what metadata promises
// about names doesn't depend on bytes.
type memory struct {
	mu  sync.Mutex
	ids map[string]snapshotters.Storage
}

func (m *memory) Create(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.ids[s.ID]; taken {
		return nil, fmt.Errorf("ID %s was given twice", s.ID)
	}
	m.ids[s.ID] = s
	return []mount.Mount{{Type: "memory", Source: s.ID, Options: s.Parents}}, nil
}

func (m *memory) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	return []mount.Mount{{Type: "memory", Source: s.ID, Options: s.Parents}}, nil
}

func (m *memory) Commit(context.Context, snapshotters.Storage) (snapshotters.Usage, error) {
	return snapshotters.Usage{Inodes: 1, Size: 4096}, nil
}

func (m *memory) Usage(context.Context, snapshotters.Storage) (snapshotters.Usage, error) {
	return snapshotters.Usage{Inodes: 2}, nil
}

func (m *memory) Remove(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ids, id)
	return nil
}

func (m *memory) List(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.ids)), nil
}

func (m *memory) Unpack(ctx context.Context, id string, tar io.Reader, _ map[string]string) (snapshotters.Usage, error) {
	n, err := io.Copy(io.Discard, tar)
	if err != nil {
		return snapshotters.Usage{}, err
	}
	_, err = m.Create(ctx, snapshotters.Storage{ID: id})
	return snapshotters.Usage{Size: n}, err
}

func (m *memory) Sync(context.Context, []string) error { return nil }
func (m *memory) Close() error                         { return nil }

type rig struct {
	*metadata.DB
	path   string
	cfg    metadata.Config
	back   metadata.Backends
	driver *memory
}

func openRig(t *testing.T, cfg metadata.Config) *rig {
	t.Helper()
	dir := t.TempDir()
	blobs, err := local.Open(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	driver := &memory{ids: map[string]snapshotters.Storage{}}
	r := &rig{path: filepath.Join(dir, "meta.db"), cfg: cfg, driver: driver}
	r.back = metadata.Backends{Content: blobs, Drivers: map[string]snapshotters.Driver{"memory": driver}}
	r.reopen(t)
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *rig) reopen(t *testing.T) {
	t.Helper()
	if r.DB != nil {
		r.Close()
	}
	db, err := metadata.Open(r.path, r.cfg, r.back)
	if err != nil {
		t.Fatal(err)
	}
	r.DB = db
}

func (r *rig) snaps(t *testing.T) snapshotters.Snapshotter {
	t.Helper()
	s, err := r.Snapshotter("memory")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func in(ns string) context.Context { return namespaces.With(context.Background(), ns) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, ctx context.Context, s content.Store, text string, labels map[string]string) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString(text), Size: int64(len(text))}
	must(t, content.WriteBlob(ctx, s, "put-"+text[:min(len(text), 10)], strings.NewReader(text), desc, labels))
	return desc
}

func TestContentConformance(t *testing.T) {
	for _, policy := range []string{"shared", "isolated"} {
		t.Run(policy, func(t *testing.T) {
			contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) {
				cfg := metadata.DefaultConfig()
				cfg.ContentSharing = policy
				return openRig(t, cfg).Content(), in("test")
			})
		})
	}
}

// sharing opens a writer of what another namespace has, and tells whether knowing
// the digest is enough.
func sharing(t *testing.T, r *rig, ns string, desc ocispec.Descriptor) bool {
	t.Helper()
	w, err := r.Content().Writer(in(ns), content.WriterOptions{Ref: "r", Descriptor: desc})
	must(t, err)
	defer w.Close()
	st, err := w.Status()
	must(t, err)
	if st.Offset == 0 {
		return false
	}
	must(t, w.Commit(in(ns), desc.Size, desc.Digest, nil))
	return true
}

func TestContentSharing(t *testing.T) {
	for policy, shared := range map[string]bool{"shared": true, "isolated": false} {
		cfg := metadata.DefaultConfig()
		cfg.ContentSharing = policy
		r := openRig(t, cfg)
		desc := put(t, in("a"), r.Content(), "secret", nil)
		if got := sharing(t, r, "b", desc); got != shared {
			t.Errorf("%s: knowing the digest was enough: %v", policy, got)
		}
		_, err := r.Content().ReaderAt(in("b"), desc)
		if (err == nil) != shared {
			t.Errorf("%s: namespace b reads a's blob: %v", policy, err)
		}
		must(t, r.Content().Delete(in("a"), desc.Digest))
		if shared {
			must(t, content.Verify(in("b"), r.Content(), desc.Digest))
		}
	}
}

// A namespace may share though the policy is to isolate.
func TestShareableNamespace(t *testing.T) {
	cfg := metadata.DefaultConfig()
	cfg.ContentSharing = "isolated"
	r := openRig(t, cfg)
	must(t, r.Namespaces().Create(t.Context(), namespaces.Info{Name: "a", Labels: map[string]string{label.Shareable: "true"}}))
	desc := put(t, in("a"), r.Content(), "common", nil)
	if !sharing(t, r, "b", desc) {
		t.Error("a shareable namespace doesn't share")
	}
	mine := put(t, in("c"), r.Content(), "mine", nil)
	if sharing(t, r, "b", mine) {
		t.Error("another namespace shares, too")
	}
}

// What is written after a shared blob makes another blob, and leaves the first.
func TestAppendToShared(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	desc := put(t, in("a"), r.Content(), "begin", nil)
	w, err := r.Content().Writer(in("b"), content.WriterOptions{Ref: "r", Descriptor: desc})
	must(t, err)
	_, err = w.Write([]byte(" end"))
	must(t, err)
	whole := digest.FromString("begin end")
	must(t, w.Commit(in("b"), 9, whole, nil))
	must(t, content.Verify(in("b"), r.Content(), whole))
	must(t, content.Verify(in("a"), r.Content(), desc.Digest))
	if _, err := r.Content().Info(in("b"), desc.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("the beginning has a name by itself: %v", err)
	}
	// A blob that goes before the commit gets no name.
	w, err = r.Content().Writer(in("c"), content.WriterOptions{Ref: "r", Descriptor: desc})
	must(t, err)
	must(t, r.Content().Delete(in("a"), desc.Digest))
	if err := w.Commit(in("c"), desc.Size, desc.Digest, nil); !errdefs.IsNotFound(err) {
		t.Errorf("a blob that went meanwhile got a name: %v", err)
	}
}

func TestSnapshotLife(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	s, ctx := r.snaps(t), in("test")
	_, err := s.Prepare(ctx, "k1", "", nil)
	must(t, err)
	_, err = s.Prepare(ctx, "k1", "", nil)
	if !errdefs.IsAlreadyExists(err) {
		t.Fatalf("second Prepare: %v", err)
	}
	must(t, s.Commit(ctx, "base", "k1", map[string]string{"a": "b"}))
	if _, err := s.Stat(ctx, "k1"); !errdefs.IsNotFound(err) {
		t.Fatalf("the key outlived its commit: %v", err)
	}
	m, err := s.Prepare(ctx, "k2", "base", nil)
	must(t, err)
	if len(m) != 1 || len(m[0].Options) != 1 {
		t.Fatalf("mounts %v, want one parent", m)
	}
	if err := s.Remove(ctx, "base"); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("a parent was removed under its child: %v", err)
	}
	if _, err := s.Prepare(ctx, "k3", "k2", nil); err == nil {
		t.Fatal("an active snapshot became a parent")
	}
	if _, err := s.Prepare(in("other"), "k3", "base", nil); !errdefs.IsNotFound(err) {
		t.Fatalf("another namespace's parent was found: %v", err)
	}
	must(t, s.Remove(ctx, "k2"))
	must(t, s.Remove(ctx, "base"))
	if len(r.driver.ids) != 0 {
		t.Fatalf("the driver still holds %v", r.driver.ids)
	}
}

func TestLayersSideBySide(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ls, err := r.Layers("memory")
	must(t, err)
	ctx := in("test")
	unpack := func() []snapshotters.Layer {
		var chain []snapshotters.Layer
		for i := range 3 {
			l, err := ls.UnpackLayer(ctx, bytes.NewReader([]byte{1, 2, 3}), nil)
			must(t, err)
			l.Name = fmt.Sprint("chain", i)
			if i > 0 {
				l.Parent = fmt.Sprint("chain", i-1)
			}
			chain = append(chain, l)
		}
		return chain
	}
	first, second := unpack(), unpack()
	must(t, ls.CommitLayers(ctx, first))
	must(t, ls.CommitLayers(ctx, second)) // the names are taken: dropped without harm
	if len(r.driver.ids) != 3 {
		t.Fatalf("the driver holds %d layers, want 3", len(r.driver.ids))
	}
	m, err := ls.View(ctx, "v", "chain2", nil)
	must(t, err)
	if want := []string{first[2].ID, first[1].ID, first[0].ID}; !slices.Equal(m[0].Options, want) {
		t.Fatalf("parents %v, want nearest first %v", m[0].Options, want)
	}
	orphan, err := ls.UnpackLayer(ctx, bytes.NewReader(nil), nil)
	must(t, err)
	orphan.Name, orphan.Parent = "lost", "nowhere"
	if err := ls.CommitLayers(ctx, []snapshotters.Layer{orphan}); !errdefs.IsNotFound(err) {
		t.Fatalf("a layer without its parent: %v", err)
	}
	if _, left := r.driver.ids[orphan.ID]; left {
		t.Fatal("a refused layer was left behind")
	}
}

func TestCollect(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx := in("test")
	c, s := r.Content(), r.snaps(t)
	layer := put(t, ctx, c, "layer", nil)
	_, err := s.Prepare(ctx, "p", "", nil)
	must(t, err)
	must(t, s.Commit(ctx, "chain", "p", nil))
	config := put(t, ctx, c, "config", map[string]string{label.GCSnapshot + "memory": "chain"})
	manifest := put(t, ctx, c, "manifest", map[string]string{
		label.GCContent + ".l.0": layer.Digest.String(), label.GCContent + ".config": config.Digest.String()})
	lost := put(t, ctx, c, "lost", nil)
	_, err = s.Prepare(ctx, "abandoned", "chain", nil)
	must(t, err)
	_, err = r.Images().Create(ctx, image.Image{Name: "img", Target: manifest})
	must(t, err)

	st, err := r.DryCollect(ctx)
	must(t, err)
	if st.Swept[gc.Content] != 1 || st.Swept[gc.Snapshot] != 1 {
		t.Fatalf("a dry run would sweep %v, want one blob and one snapshot", st.Swept)
	}
	must(t, content.Verify(ctx, c, lost.Digest))
	removed := func(st metadata.Stats) string {
		var out []string
		for _, x := range st.Removed {
			out = append(out, fmt.Sprintf("%s %s %d", x.Node.Type, x.Node.Key, x.Bytes))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	want := "content " + lost.Digest.String() + " 4, snapshot memory/abandoned 0"
	if got := removed(st); got != want {
		t.Errorf("a dry run tells of %s, want %s", got, want)
	}
	st, err = r.Collect(ctx)
	must(t, err)
	if got := removed(st); got != want {
		t.Errorf("removed %s, want %s", got, want)
	}
	for _, d := range []ocispec.Descriptor{layer, config, manifest} {
		must(t, content.Verify(ctx, c, d.Digest))
	}
	if _, err := r.back.Content.Info(ctx, lost.Digest); !errdefs.IsNotFound(err) {
		t.Fatalf("the lost blob's bytes are still there: %v", err)
	}
	must(t, r.Images().Delete(ctx, "img", image.DeleteOptions{Sync: true}))
	if got := count(t, r); got != 0 || len(r.driver.ids) != 0 {
		t.Fatalf("%d blobs and %d snapshots outlived their image", got, len(r.driver.ids))
	}
}

func count(t *testing.T, r *rig) (n int) {
	t.Helper()
	must(t, r.back.Content.Walk(t.Context(), func(content.Info) error {
		n++
		return nil
	}))
	return n
}

func TestLeaseHolds(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx := in("test")
	l, err := r.Leases().Create(ctx, lease.Lease{ID: "l"})
	must(t, err)
	desc := put(t, lease.With(ctx, l.ID), r.Content(), "held", nil)
	_, err = r.Collect(ctx)
	must(t, err)
	must(t, content.Verify(ctx, r.Content(), desc.Digest))
	must(t, r.Leases().Delete(ctx, l.ID, true))
	if count(t, r) != 0 {
		t.Fatal("the blob outlived its lease")
	}
	past := map[string]string{label.GCExpire: time.Now().Add(-time.Hour).Format(time.RFC3339)}
	// An ingest begun under a lease goes with it, one without stays for its writer.
	l, err = r.Leases().Create(ctx, lease.Lease{ID: "begun"})
	must(t, err)
	for ref, ctx := range map[string]context.Context{"leased": lease.With(ctx, l.ID), "alone": ctx} {
		w, err := r.Content().Writer(ctx, content.WriterOptions{Ref: ref})
		must(t, err)
		must(t, w.Close())
	}
	_, err = r.Collect(ctx)
	must(t, err)
	if list, _ := r.Content().ListStatuses(ctx); len(list) != 2 {
		t.Fatalf("ingests %v, want both", list)
	}
	must(t, r.Leases().Delete(ctx, l.ID, true))
	if list, _ := r.Content().ListStatuses(ctx); len(list) != 1 || list[0].Ref != "alone" {
		t.Fatalf("ingests %v, want the one that no lease held", list)
	}
	_, err = r.Leases().Create(ctx, lease.Lease{ID: "old", Labels: past})
	must(t, err)
	_, err = r.Collect(ctx)
	must(t, err)
	if left, _ := r.Leases().List(ctx); len(left) != 0 {
		t.Fatalf("an expired lease stayed: %v", left)
	}
}

// What is created while the collector runs must never be taken.
func TestCollectAgainstWriters(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx, stop := context.WithTimeout(in("test"), 1500*time.Millisecond)
	defer stop()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("%d-%d", w, i)
				id := "lease-" + name
				_, err := r.Leases().Create(in("test"), lease.Lease{ID: id})
				must(t, err)
				held := lease.With(in("test"), id)
				desc := put(t, held, r.Content(), name+strings.Repeat("x", 20), nil)
				_, err = r.Images().Create(in("test"), image.Image{Name: name, Target: desc})
				must(t, err)
				must(t, r.Leases().Delete(in("test"), id, false))
				if err := content.Verify(in("test"), r.Content(), desc.Digest); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for ctx.Err() == nil {
		_, err := r.Collect(in("test"))
		must(t, err)
	}
	wg.Wait()
}

func TestReconcile(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx := in("test")
	keep := put(t, ctx, r.Content(), "keep", nil)
	orphan := put(t, ctx, r.back.Content, "orphan", nil)
	w, err := r.back.Content.Writer(ctx, content.WriterOptions{Ref: "test/unknown"})
	must(t, err)
	w.Close()
	_, err = r.snaps(t).Prepare(ctx, "k", "", nil)
	must(t, err)
	r.driver.Create(ctx, snapshotters.Storage{ID: "999999"})
	r.reopen(t)
	found, err := r.Reconcile(ctx)
	must(t, err)
	if len(found) != 3 {
		t.Fatalf("found %v, want a snapshot, a blob and an ingest", found)
	}
	must(t, content.Verify(ctx, r.Content(), keep.Digest))
	if _, err := r.back.Content.Info(ctx, orphan.Digest); !errdefs.IsNotFound(err) {
		t.Fatal("the orphan blob is still there")
	}
	if found, err := r.Reconcile(ctx); err != nil || len(found) != 0 {
		t.Fatalf("a second look finds %v (%v)", found, err)
	}
}

// A power cut may take the directory of an active snapshot, which isn't synced.
func TestLostSnapshot(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx := in("test")
	_, err := r.snaps(t).Prepare(ctx, "base", "", nil)
	must(t, err)
	must(t, r.snaps(t).Commit(ctx, "layer", "base", nil))
	base, err := r.driver.List(ctx)
	must(t, err)
	want, err := r.snaps(t).Prepare(ctx, "k", "layer", nil)
	must(t, err)
	ids, err := r.driver.List(ctx)
	must(t, err)
	for _, id := range ids {
		if id != base[0] {
			must(t, r.driver.Remove(ctx, id))
		}
	}
	r.reopen(t)
	found, err := r.Reconcile(ctx)
	must(t, err)
	if len(found) != 1 || found[0].Kind != "missing" || !found[0].Repaired {
		t.Fatalf("found %v, want the one that is missing", found)
	}
	got, err := r.snaps(t).Mounts(ctx, "k")
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("mounts %v, before %v", got, want)
	}
	must(t, r.driver.Remove(ctx, base[0]))
	if found, err := r.Reconcile(ctx); err != nil || len(found) != 0 {
		t.Fatalf("a lost layer can't be made anew: %v %v", found, err)
	}
}

func TestIDsAreNeverReused(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	seen := map[string]bool{}
	for i := range 5 {
		m, err := r.snaps(t).Prepare(in("test"), fmt.Sprint("k", i), "", nil)
		must(t, err)
		if seen[m[0].Source] {
			t.Fatalf("ID %s came twice", m[0].Source)
		}
		seen[m[0].Source] = true
		r.reopen(t)
	}
}

func TestContainerKeepsTypedValues(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	ctx := in("test")
	c := container.Container{
		ID: "c", Runtime: container.Runtime{Name: "io.containerd.orlop.v1"},
		Spec:       &anypb.Any{TypeUrl: "spec", Value: []byte(`{"a":1}`)},
		Extensions: map[string]typeurl.Any{"e": &anypb.Any{TypeUrl: "ext", Value: []byte{0, 255}}},
	}
	_, err := r.Containers().Create(ctx, c)
	must(t, err)
	r.reopen(t)
	got, err := r.Containers().Get(ctx, "c")
	must(t, err)
	if string(got.Spec.GetValue()) != `{"a":1}` || !bytes.Equal(got.Extensions["e"].GetValue(), []byte{0, 255}) || got.Runtime.Options != nil {
		t.Fatalf("came back as %+v", got)
	}
	if _, err := r.Containers().Update(ctx, container.Container{ID: "c", Labels: map[string]string{"x": "y"}}, "labels.x"); err != nil {
		t.Fatal(err)
	}
	list, err := r.Containers().List(ctx, `labels.x==y`)
	if err != nil || len(list) != 1 {
		t.Fatalf("list by label: %v %v", list, err)
	}
}

func TestNamespaceMustBeEmpty(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	put(t, in("full"), r.Content(), "x1", nil)
	err := r.Namespaces().Delete(t.Context(), "full")
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "content") {
		t.Fatalf("got %v, want a refusal that names what is left", err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	r := openRig(t, metadata.DefaultConfig())
	cfg := metadata.DefaultConfig()
	cfg.LockTimeout = 50 * time.Millisecond
	if _, err := metadata.Open(r.path, cfg, r.back); !errdefs.IsUnavailable(err) {
		t.Fatalf("a second daemon got the database: %v", err)
	}
}
