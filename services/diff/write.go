package diff

import (
	"context"
	"crypto/rand"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
)

// Layer is a layer that was written.
type Layer struct {
	Desc   ocispec.Descriptor
	DiffID digest.Digest
	// Size is that of the tar, in bytes.
	Size int64
}

// WriteLayer makes a gzip layer blob of the tar that fill writes.
func WriteLayer(ctx context.Context, store content.Store, fill func(io.Writer) error) (l Layer, err error) {
	compress, mediaType, err := compressor("")
	if err != nil {
		return l, err
	}
	cw, err := store.Writer(ctx, content.WriterOptions{Ref: "layer-" + rand.Text()})
	if err != nil {
		return l, err
	}
	defer cw.Close()
	zw, err := compress(cw)
	if err != nil {
		return l, err
	}
	out := &measured{w: zw, digester: digest.Canonical.Digester()}
	if err := fill(out); err != nil {
		zw.Close()
		return l, err
	}
	if err := zw.Close(); err != nil {
		return l, err
	}
	st, err := cw.Status()
	if err != nil {
		return l, err
	}
	l = Layer{Desc: ocispec.Descriptor{MediaType: mediaType, Digest: cw.Digest(), Size: st.Offset}, DiffID: out.digester.Digest(), Size: out.n}
	err = cw.Commit(ctx, l.Desc.Size, l.Desc.Digest, map[string]string{label.Uncompressed: l.DiffID.String()})
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return l, err
}

// measured hashes and counts what is written through it.
type measured struct {
	w        io.Writer
	digester digest.Digester
	n        int64
}

// Write writes on.
func (m *measured) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.digester.Hash().Write(p[:n])
	m.n += int64(n)
	return n, err
}
