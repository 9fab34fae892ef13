package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ReadBlob reads a whole blob of at most limit bytes and checks its digest. It is
// for manifests and configs, which are small; a larger one is InvalidArgument.
func ReadBlob(ctx context.Context, p Provider, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	r, err := p.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d are read here: %w", desc.Digest, r.Size(), limit, errdefs.ErrInvalidArgument)
	}
	buf := make([]byte, r.Size())
	if n, err := r.ReadAt(buf, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(buf)) {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(buf); got != desc.Digest {
		return nil, fmt.Errorf("blob %s is damaged: its bytes have digest %s: %w", desc.Digest, got, errdefs.ErrDataLoss)
	}
	return buf, nil
}

// WriteBlob stores what r holds under desc, resuming or replacing an ingest of
// the ref. A blob that is there already is success.
func WriteBlob(ctx context.Context, in Ingester, ref string, r io.Reader, desc ocispec.Descriptor, labels map[string]string) error {
	w, err := in.Writer(ctx, WriterOptions{Ref: ref, Descriptor: desc})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if err := fill(w, ref, r, desc); err != nil {
		return err
	}
	if err := w.Commit(ctx, desc.Size, desc.Digest, labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// fill writes all of r, unless the ingest holds the blob already.
func fill(w Writer, ref string, r io.Reader, desc ocispec.Descriptor) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset == desc.Size && w.Digest() == desc.Digest {
		return nil
	}
	if err := w.Truncate(0); err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("ingest %q: %w", ref, err)
	}
	return nil
}

// Verify reads a blob and compares its bytes with its digest.
func Verify(ctx context.Context, p Provider, dgst digest.Digest) error {
	r, err := p.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		return err
	}
	defer r.Close()
	v := dgst.Verifier()
	if _, err := io.Copy(v, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return fmt.Errorf("blob %s: %w", dgst, err)
	}
	if !v.Verified() {
		return fmt.Errorf("blob %s: its bytes have another digest: %w", dgst, errdefs.ErrDataLoss)
	}
	return nil
}
