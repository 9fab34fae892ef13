package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/services/remote"
)

// maxManifest bounds what is read of a manifest, in bytes; the registry has taken no
// larger one than its own bound.
const maxManifest = 64 << 20

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// tell makes the target's reference what this registry's is by now.
func (w *worker) tell(ctx context.Context, e registry.Errand) error {
	ref, err := remote.ParseReference(w.rule.Host + "/" + w.rule.Prefix + e.Repository + ":latest")
	if err != nil {
		return err
	}
	to, err := w.rule.Client.Pusher(ref)
	if err != nil {
		return err
	}
	dgst, plain := isDigest(e.Reference)
	tag := ""
	if !plain {
		tag = e.Reference
		t, err := w.parts.Catalog.Tag(ctx, e.Repository, tag)
		if errdefs.IsNotFound(err) {
			return w.remove(ctx, to, tag)
		}
		if err != nil {
			return err
		}
		dgst = t.Digest
	}
	s := &sending{worker: w, repo: e.Repository, to: to}
	err = s.manifest(ctx, dgst, tag, 0)
	if errors.Is(err, errGone) {
		return w.remove(ctx, to, e.Reference)
	}
	if err == nil {
		w.note(func(st *Status) { st.Pushed++ })
	}
	return err
}

func (w *worker) remove(ctx context.Context, to *remote.Pusher, reference string) error {
	if !w.rule.Deletes {
		return nil
	}
	err := w.persist(ctx, func() error { return to.Delete(ctx, reference) })
	if err == nil {
		w.note(func(s *Status) { s.Deleted++ })
	}
	return err
}

// errGone says that the manifest isn't here any more.
var errGone = errors.New("it was deleted")

// sending is one manifest, with all that hangs on it, on its way.
type sending struct {
	*worker
	repo string
	to   *remote.Pusher
}

// manifest sends what a manifest refers to, then itself. What this registry lacks of it,
// as an index may lack platforms, the target will lack, too, or refuse it.
func (s *sending) manifest(ctx context.Context, dgst digest.Digest, tag string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("manifest %s: indexes are within indexes, more than %d deep: %w", dgst, maxDepth, errdefs.ErrOutOfRange)
	}
	m, err := s.parts.Catalog.Manifest(ctx, s.repo, dgst)
	if errdefs.IsNotFound(err) {
		return errGone
	}
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
	there, err := s.has(ctx, desc, tag)
	if err == nil && there || err != nil && !refusal(err) {
		return err
	}
	for _, child := range m.Manifests {
		if err := s.manifest(ctx, child, "", depth+1); err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	for _, blob := range m.Blobs {
		if err := s.blob(ctx, blob); err != nil {
			return err
		}
	}
	body, err := content.ReadBlob(ctx, s.parts.Blobs, desc, maxManifest)
	if err != nil {
		return err
	}
	if err := s.persist(ctx, func() error { return s.to.Manifest(ctx, desc, body, tag) }); err != nil {
		return err
	}
	s.note(func(st *Status) { st.Bytes += desc.Size })
	return nil
}

// has asks whether the target has something.
func (s *sending) has(ctx context.Context, desc ocispec.Descriptor, tag string) (there bool, err error) {
	err = s.persist(ctx, func() error {
		there, err = s.to.Has(ctx, desc, tag)
		return err
	})
	return there, err
}

// blob sends one, unless the target has it.
func (s *sending) blob(ctx context.Context, dgst digest.Digest) error {
	b, err := s.parts.Catalog.Blob(ctx, s.repo, dgst)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{Digest: dgst, Size: b.Size}
	if there, err := s.has(ctx, desc, ""); err != nil || there {
		return err
	}
	ra, err := s.parts.Blobs.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer ra.Close()
	open := func(offset, n int64) io.Reader { return io.NewSectionReader(ra, offset, n) }
	err = s.persist(ctx, func() error {
		_, err := s.to.Blob(ctx, desc, "", open)
		return err
	})
	if err == nil {
		s.note(func(st *Status) { st.Bytes += desc.Size })
	}
	return err
}
