// Package diff applies layer blobs to mounts and makes layer blobs of what
// changed, for clients that unpack step by step. Pulling unpacks as a stream
// instead (services/pull). Nothing is kept between calls; a crash leaves an
// ingest that the collector takes.
package diff

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Config bounds what is unpacked.
type Config struct {
	// MaxLayerBytes is how many bytes of file data one layer may unpack to; 0 is no
	// bound.
	MaxLayerBytes int64 `toml:"max_layer_bytes"`
}

// DefaultConfig is what an empty config means: 32 GiB, several times the largest
// layers that are published.
func DefaultConfig() Config { return Config{MaxLayerBytes: 32 << 30} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxLayerBytes < 0 {
		return fmt.Errorf("max_layer_bytes is %d, it must not be negative", c.MaxLayerBytes)
	}
	return nil
}

// Walking compares trees by walking them. It is safe for concurrent use.
type Walking struct {
	Store  content.Store
	Config Config
}

var (
	_ diff.Applier  = (*Walking)(nil)
	_ diff.Comparer = (*Walking)(nil)
)

// Apply unpacks a layer blob onto mounts. An overlay's upper directory is written
// to directly, with overlay's own whiteouts, so that its lower layers needn't be
// looked at.
func (w *Walking) Apply(ctx context.Context, desc ocispec.Descriptor, ms []mount.Mount, opts diff.ApplyOptions) (ocispec.Descriptor, error) {
	ra, err := w.Store.ReaderAt(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer ra.Close()
	tar, err := layer.Decompress(io.NewSectionReader(ra, 0, ra.Size()), desc.MediaType)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	defer tar.Close()
	c := &counter{r: tar, digester: digest.Canonical.Digester()}
	if err := w.applyOnto(ctx, ms, c, opts); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // padding after the tar's end counts
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: c.digester.Digest(), Size: c.n}, nil
}

func (w *Walking) applyOnto(ctx context.Context, ms []mount.Mount, r io.Reader, opts diff.ApplyOptions) error {
	if upper, ok := overlayUpper(ms); ok {
		return applyTo(ctx, upper, r, layer.Options{Whiteouts: layer.Overlay, MaxBytes: w.Config.MaxLayerBytes}, opts)
	}
	return mounts.WithTemp(ctx, ms, func(root string) error {
		return applyTo(ctx, root, r, layer.Options{MaxBytes: w.Config.MaxLayerBytes}, opts)
	})
}

func applyTo(ctx context.Context, root string, r io.Reader, lo layer.Options, opts diff.ApplyOptions) error {
	if _, err := layer.Apply(ctx, root, r, lo); err != nil {
		return err
	}
	if !opts.SyncFS {
		return nil
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// overlayUpper finds the upper directory of a single overlay mount.
func overlayUpper(ms []mount.Mount) (string, bool) {
	if len(ms) != 1 || ms[0].Type != "overlay" {
		return "", false
	}
	for _, o := range ms[0].Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			return dir, true
		}
	}
	return "", false
}

// counter hashes and counts what is read through it.
type counter struct {
	r        io.Reader
	digester digest.Digester
	n        int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.digester.Hash().Write(p[:n])
	c.n += int64(n)
	return n, err
}

// Compare makes a layer of what upper changed against lower.
func (w *Walking) Compare(ctx context.Context, lower, upper []mount.Mount, opts diff.CompareOptions) (ocispec.Descriptor, error) {
	compress, mediaType, err := compressor(opts.MediaType)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ref := opts.Reference
	if ref == "" {
		ref = "diff-" + rand.Text()
	}
	cw, err := w.Store.Writer(ctx, content.WriterOptions{Ref: ref})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer cw.Close()
	if err := cw.Truncate(0); err != nil {
		return ocispec.Descriptor{}, err
	}
	diffID, err := writeDiff(ctx, cw, compress, lower, upper, opts)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("diff: %w", err)
	}
	if opts.DiffID != nil {
		*opts.DiffID = diffID
	}
	return w.commit(ctx, cw, mediaType, diffID, opts)
}

func (w *Walking) commit(ctx context.Context, cw content.Writer, mediaType string, diffID digest.Digest, opts diff.CompareOptions) (ocispec.Descriptor, error) {
	st, err := cw.Status()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	labels := map[string]string{label.Uncompressed: diffID.String()}
	for k, v := range opts.Labels {
		labels[k] = v
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: cw.Digest(), Size: st.Offset}
	if err := cw.Commit(ctx, desc.Size, desc.Digest, labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	return desc, nil
}

func writeDiff(ctx context.Context, out io.Writer, compress func(io.Writer) (io.WriteCloser, error), lower, upper []mount.Mount, opts diff.CompareOptions) (digest.Digest, error) {
	zw, err := compress(out)
	if err != nil {
		return "", err
	}
	digester := digest.Canonical.Digester()
	tar := io.MultiWriter(zw, digester.Hash())
	lo := layer.DiffOptions{SourceDateEpoch: opts.SourceDateEpoch}
	if err := diffMounts(ctx, lower, upper, tar, lo); err != nil {
		zw.Close()
		return "", err
	}
	return digester.Digest(), zw.Close()
}

func diffMounts(ctx context.Context, lower, upper []mount.Mount, w io.Writer, lo layer.DiffOptions) error {
	return mounts.WithTempReadOnly(ctx, lower, func(below string) error {
		return mounts.WithTempReadOnly(ctx, upper, func(above string) error {
			return layer.Diff(ctx, below, above, w, lo)
		})
	})
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

func compressor(mediaType string) (func(io.Writer) (io.WriteCloser, error), string, error) {
	switch mediaType {
	case "", ocispec.MediaTypeImageLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip":
		if mediaType == "" {
			mediaType = ocispec.MediaTypeImageLayerGzip
		}
		return func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, mediaType, nil
	case ocispec.MediaTypeImageLayerZstd:
		return func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, mediaType, nil
	case ocispec.MediaTypeImageLayer, "application/vnd.docker.image.rootfs.diff.tar":
		return func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil }, mediaType, nil
	}
	return nil, "", fmt.Errorf("layers of media type %q can't be made: %w", mediaType, errdefs.ErrNotImplemented)
}
