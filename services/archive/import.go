package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/archive/packed"
	"github.com/orlop/orlop/services/manifest"
)

const (
	// copyBuffer is how many bytes of a blob move at once.
	copyBuffer = 256 << 10
	// maxLinks bounds links that refer to links.
	maxLinks = 8
)

// ImportOptions tune [Archiver.Import].
type ImportOptions struct {
	// Compress makes gzip of layers that aren't compressed (docker archives only).
	Compress bool
	Report   progress.Func
}

// Import stores all blobs of an archive, compressed or not, and returns the
// index of its images, which is stored, too. Names are in the annotations of its
// manifests. No collector's labels are set yet.
func (a *Archiver) Import(ctx context.Context, r io.Reader, o ImportOptions) (ocispec.Descriptor, ocispec.Index, error) {
	plain, err := packed.Open(r)
	if err != nil {
		return ocispec.Descriptor{}, ocispec.Index{}, readError(err)
	}
	defer plain.Close()
	in := &importer{
		Archiver: a, ctx: ctx, options: o, tar: tar.NewReader(&bounded{r: plain, left: a.cfg.MaxBytes, most: a.cfg.MaxBytes}),
		files: map[string]ocispec.Descriptor{}, links: map[string]string{}, buf: make([]byte, copyBuffer),
	}
	if err := in.readAll(); err != nil {
		return ocispec.Descriptor{}, ocispec.Index{}, err
	}
	// What follows the end is read, so that the sender isn't left with it.
	if _, err := io.Copy(io.Discard, io.LimitReader(plain, maxTrailer)); err != nil {
		return ocispec.Descriptor{}, ocispec.Index{}, readError(err)
	}
	return in.index()
}

// maxTrailer bounds what is read after an archive's end: tar pads with zeros.
const maxTrailer = 1 << 20

// importer is one import.
type importer struct {
	*Archiver
	ctx     context.Context
	options ImportOptions
	tar     *tar.Reader
	buf     []byte

	entries int
	layout  bool                          // oci-layout was seen
	ociBody []byte                        // of index.json
	docker  []byte                        // of manifest.json
	files   map[string]ocispec.Descriptor // what else was stored, by name
	links   map[string]string             // names that mean another one
}

// readError gives a reader's error a class: a malformed archive is the caller's.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid("%v", err)
	}
	return fmt.Errorf("archive: %w", err)
}

func (in *importer) readAll() error {
	for {
		h, err := in.tar.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(err)
		}
		if err := in.ctx.Err(); err != nil {
			return err
		}
		if in.entries++; in.entries > in.cfg.MaxEntries {
			return invalid("more than %d entries", in.cfg.MaxEntries)
		}
		if err := in.entry(h); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
}

func (in *importer) entry(h *tar.Header) error {
	name := path.Clean("/" + h.Name)[1:]
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		in.links[name] = path.Clean("/" + path.Join(path.Dir(name), h.Linkname))[1:]
		return nil
	case tar.TypeLink:
		in.links[name] = path.Clean("/" + h.Linkname)[1:]
		return nil
	default:
		return nil
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return invalid("sparse files are not taken")
		}
	}
	return in.file(name, h.Size)
}

func (in *importer) file(name string, size int64) (err error) {
	switch name {
	case layoutFile:
		var l ocispec.ImageLayout
		body, err := in.small(size)
		if err != nil || json.Unmarshal(body, &l) != nil || l.Version != layoutSchema {
			return errors.Join(err, invalid("unknown version %.40q of the image layout", l.Version))
		}
		in.layout = true
		return nil
	case indexFile:
		in.ociBody, err = in.small(size)
		return err
	case dockerFile:
		in.docker, err = in.small(size)
		return err
	}
	desc, err := in.blob(blobDigest(name), size)
	in.files[name] = desc
	return err
}

// blobDigest reads blobs/<algorithm>/<hex>; other names have none.
func blobDigest(name string) digest.Digest {
	rest, ok := strings.CutPrefix(name, blobsFolder)
	if !ok {
		return ""
	}
	alg, hex, _ := strings.Cut(rest, "/")
	if d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex); d.Validate() == nil {
		return d
	}
	return ""
}

func (in *importer) small(size int64) ([]byte, error) {
	if size > manifest.MaxSize {
		return nil, invalid("it has %d bytes, at most %d are read", size, manifest.MaxSize)
	}
	body, err := io.ReadAll(io.LimitReader(in.tar, manifest.MaxSize))
	if err != nil {
		return nil, readError(err)
	}
	return body, nil
}

// blob stores the entry that is being read; want may be empty. A media type for
// its compression is guessed.
func (in *importer) blob(want digest.Digest, size int64) (ocispec.Descriptor, error) {
	ref := "import-" + rand.Text()
	step := progress.Step{Event: "importing", Name: "blob-" + want.String(), Total: size}
	desc := ocispec.Descriptor{Digest: want, Size: size}
	w, err := in.store.Writer(in.ctx, content.WriterOptions{Ref: ref, Descriptor: desc})
	if errdefs.IsAlreadyExists(err) {
		return in.known(desc)
	}
	if err != nil {
		return desc, err
	}
	defer w.Close()
	head := &headWriter{}
	if err := in.copy(w, head, step); err != nil {
		return desc, errors.Join(err, in.store.Abort(context.WithoutCancel(in.ctx), ref))
	}
	if want == "" {
		desc.Digest = w.Digest()
	}
	err = w.Commit(in.ctx, size, desc.Digest, nil)
	switch {
	case err == nil || errdefs.IsAlreadyExists(err):
		if head.b == nil {
			return in.known(desc)
		}
		desc.MediaType = layerType(head.b)
		return desc, nil
	case errdefs.IsFailedPrecondition(err):
		err = fmt.Errorf("the bytes are not those of the name: %w: %w", err, errdefs.ErrDataLoss)
	}
	return desc, errors.Join(err, in.store.Abort(context.WithoutCancel(in.ctx), ref))
}

// copy writes the entry that is being read, unless the store has begun the ingest
// whole, as it does with a blob that another namespace has.
func (in *importer) copy(w content.Writer, head *headWriter, step progress.Step) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset == step.Total && st.Offset > 0 {
		return nil
	}
	if err := w.Truncate(0); err != nil {
		return err
	}
	body := in.options.Report.NewReader(in.tar, step)
	if _, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, head)}, body, in.buf); err != nil {
		return readError(err)
	}
	return nil
}

// known describes a blob that is in the store already.
func (in *importer) known(desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	ra, err := in.store.ReaderAt(in.ctx, desc)
	if err != nil {
		return desc, err
	}
	defer ra.Close()
	if ra.Size() != desc.Size {
		return desc, fmt.Errorf("it has %d bytes, the blob of that digest has %d: %w", desc.Size, ra.Size(), errdefs.ErrDataLoss)
	}
	head := make([]byte, headSize)
	n, err := ra.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return desc, err
	}
	desc.MediaType = layerType(head[:n])
	return desc, nil
}

// headSize is how many bytes tell a compression.
const headSize = 4

// headWriter keeps the first bytes.
type headWriter struct{ b []byte }

func (h *headWriter) Write(p []byte) (int, error) {
	if room := headSize - len(h.b); room > 0 {
		h.b = append(h.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// layerType is the media type of a layer blob that begins so.
func layerType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return ocispec.MediaTypeImageLayerGzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayer
}

// find returns what is stored under a name, following links within the archive.
func (in *importer) find(name string) (ocispec.Descriptor, error) {
	name = path.Clean("/" + name)[1:]
	for range maxLinks {
		if desc, ok := in.files[name]; ok {
			return desc, nil
		}
		next, ok := in.links[name]
		if !ok {
			break
		}
		name = next
	}
	return ocispec.Descriptor{}, fmt.Errorf("archive: %.200q is not in it: %w: %w", name, errdefs.ErrNotFound, errdefs.ErrInvalidArgument)
}

// bounded ends an archive that is larger than allowed.
type bounded struct {
	r          io.Reader
	left, most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 && b.most > 0 {
		return 0, fmt.Errorf("larger than %d bytes (max_archive_bytes): %w", b.most, errdefs.ErrResourceExhausted)
	}
	return n, err
}
