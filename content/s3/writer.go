package s3

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
)

// writer is an open ingest. It holds the ref until Close or Commit.
type writer struct {
	*ingest.Lock
	s    *Store
	ctx  context.Context // of Writer, without its end: a part that is being sent is of use
	note *note
	f    *os.File // of the part that is being filled; nil once closed
	hash digest.Digester
	sent int64 // bytes that the server has
	held int64 // bytes in f
}

var errClosed = fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)

func (w *writer) Digest() digest.Digest { return w.hash.Digest() }
func (w *writer) named(err error) error { return wrap(fmt.Sprintf("ingest %q", w.Ref), err) }
func (w *writer) offset() int64         { return w.sent + w.held }

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Status returns where the ingest stands.
func (w *writer) Status() (content.Status, error) {
	return w.note.Status(w.offset(), w.LastWrite()), nil
}

// room is how large the part that is being filled gets: larger the more there are, so
// that their number never is what ends an ingest.
func (w *writer) room() int64 {
	return min(w.s.cfg.PartSize*int64(1+len(w.note.Parts)/1000), maxPart)
}

// Write fills parts, and sends those that are full. What it returns was taken, even if
// a part could not be sent; the next Write tries that again.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.f == nil {
		return 0, errClosed
	}
	for {
		if w.held >= w.room() {
			if err := w.send(); err != nil {
				return n, w.named(err)
			}
		}
		if n == len(p) {
			return n, nil
		}
		got, err := w.f.Write(p[n:min(int64(len(p)), int64(n)+w.room()-w.held)])
		w.hash.Hash().Write(p[n : n+got])
		n, w.held = n+got, w.held+int64(got)
		w.Touch(time.Now())
		if err != nil {
			return n, w.named(err)
		}
	}
}

// send sends the part that is there and begins the next.
func (w *writer) send() error {
	if len(w.note.Parts) == maxParts {
		return fmt.Errorf("%d parts were sent, more are not taken: %w", maxParts, errdefs.ErrOutOfRange)
	}
	if err := w.begin(); err != nil {
		return err
	}
	sum, err := sum256(w.f, w.held)
	if err != nil {
		return err
	}
	got, err := w.s.core.PutObjectPart(w.ctx, w.s.cfg.Bucket, w.note.Object, w.note.Upload, len(w.note.Parts)+1,
		io.NewSectionReader(w.f, 0, w.held), w.held, minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: asOne})
	if err != nil {
		return classify("a part", err)
	}
	state, err := w.hash.Hash().(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	next := *w.note
	next.Parts, next.Hash = append(w.note.Parts, part{got.ETag, w.held}), state
	if err := next.save(w.Dir); err != nil {
		return err
	}
	old := w.f
	f, err := os.OpenFile(next.next(w.Dir), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w.f, w.note, w.sent, w.held = f, &next, w.sent+w.held, 0
	return errors.Join(os.Remove(old.Name()), old.Close())
}

// begin opens the upload of parts, and notes it before there is one.
func (w *writer) begin() error {
	if w.note.Upload != "" {
		return nil
	}
	id, err := random()
	if err != nil {
		return err
	}
	ctx, cancel := w.s.small(w.ctx)
	defer cancel()
	object := w.s.ingests() + id
	upload, err := w.s.core.NewMultipartUpload(ctx, w.s.cfg.Bucket, object, minio.PutObjectOptions{ContentType: mediaType})
	if err != nil {
		return classify("an upload of parts", err)
	}
	w.note.Object, w.note.Upload = object, upload
	return w.note.save(w.Dir)
}

// mediaType is what browsers and proxies are told of objects.
const mediaType = "application/octet-stream"

// asOne has a request signed as a whole, by the sum of its body, and not chunk by chunk
// (aws-chunked): the sum is known, and some servers answer what follows a body that ends
// with an empty chunk with an error.
const asOne = true

// sum256 lets the server check what it gets.
func sum256(f io.ReaderAt, n int64) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(f, 0, n))
	return hex.EncodeToString(h.Sum(nil)), err
}

// Close keeps the ingest for later.
func (w *writer) Close() error {
	if w.f == nil {
		return nil
	}
	err := w.Leave(w.f, nil)
	w.f = nil
	return err
}

// Truncate begins anew.
func (w *writer) Truncate(size int64) error {
	if w.f == nil {
		return errClosed
	}
	if size != 0 {
		return fmt.Errorf("ingest %q can only be truncated to 0, not %d: %w", w.Ref, size, errdefs.ErrInvalidArgument)
	}
	if w.offset() == 0 {
		return nil
	}
	if err := w.s.forget(w.ctx, w.note); err != nil {
		return w.named(err)
	}
	if err := errors.Join(os.Remove(w.f.Name()), w.f.Close()); err != nil {
		return w.named(err)
	}
	n := *w.note
	n.Object, n.Upload, n.Parts, n.Hash = "", "", nil, nil
	if err := n.save(w.Dir); err != nil {
		return w.named(err)
	}
	w.note = &n
	err := w.resume()
	w.Touch(time.Now())
	return w.named(err)
}
