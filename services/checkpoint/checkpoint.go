// Package checkpoint keeps checkpoints of tasks as blobs: the folder that a runtime has
// written as a tar, as containerd does.
package checkpoint

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
)

// The media types of a checkpoint's blobs, which are containerd's.
const (
	MediaType       = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
	MediaTypeConfig = "application/vnd.containerd.container.checkpoint.config.v1+proto"
)

// maxFiles bounds the files of a checkpoint; CRIU writes some for each process.
const maxFiles = 1 << 20

// Pack makes a blob of the files in a folder.
func Pack(ctx context.Context, store content.Store, dir string) (ocispec.Descriptor, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer root.Close()
	return write(ctx, store, MediaType, func(w io.Writer) error {
		out := tar.NewWriter(w)
		err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			return add(out, root, name)
		})
		if err != nil {
			return err
		}
		return out.Close()
	})
}

func add(out *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Size: st.Size(), Mode: 0o600, ModTime: st.ModTime(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}

// PackConfig makes a blob of what the container was made from.
func PackConfig(ctx context.Context, store content.Store, data []byte) (ocispec.Descriptor, error) {
	return write(ctx, store, MediaTypeConfig, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func write(ctx context.Context, store content.Store, mediaType string, fill func(io.Writer) error) (ocispec.Descriptor, error) {
	w, err := store.Writer(ctx, content.WriterOptions{Ref: "checkpoint-" + rand.Text()})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close()
	if err := fill(w); err != nil {
		return ocispec.Descriptor{}, err
	}
	st, err := w.Status()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: w.Digest(), Size: st.Offset}
	if err := w.Commit(ctx, desc.Size, desc.Digest, nil); err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, err
	}
	return desc, nil
}

// Unpack writes the files of a blob into a folder that is there. Names that lead out of
// it are refused.
func Unpack(ctx context.Context, store content.Provider, desc ocispec.Descriptor, dir string) error {
	if desc.MediaType != MediaType {
		return fmt.Errorf("checkpoint %s has media type %q, not %q: %w", desc.Digest, desc.MediaType, MediaType, errdefs.ErrInvalidArgument)
	}
	r, err := store.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := extractAll(ctx, root, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return fmt.Errorf("checkpoint %s: %w", desc.Digest, err)
	}
	return nil
}

// extractAll writes the files of a tar, which take no more room than the tar: of sparse
// ones it could say anything.
func extractAll(ctx context.Context, root *os.Root, r *io.SectionReader) error {
	in, room := tar.NewReader(r), r.Size()
	for range maxFiles {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if room -= h.Size; room < 0 {
			return fmt.Errorf("file %q is larger than what holds it: %w", h.Name, errdefs.ErrInvalidArgument)
		}
		if err := extract(root, h, in); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d files: %w", maxFiles, errdefs.ErrInvalidArgument)
}

// extract writes a file; what is no file is passed over.
func extract(root *os.Root, h *tar.Header, in io.Reader) error {
	name := path.Clean(h.Name)
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}
