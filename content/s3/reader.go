package s3

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/orlop/orlop/content"
)

// reader is a blob. Whoever reads in order gets one stream, which goes on where it
// stood when a connection breaks; other reads are questions of their own.
type reader struct {
	s      *Store
	info   content.Info
	ctx    context.Context
	cancel context.CancelFunc

	mu   sync.Mutex // held while the stream is read
	body io.ReadCloser
	at   int64 // where the stream stands
	// last is where a read outside of the stream ended: the stream moves there when a
	// second one follows.
	last int64
}

func newReader(s *Store, info content.Info) *reader {
	ctx, cancel := context.WithCancel(context.Background())
	return &reader{s: s, info: info, ctx: ctx, cancel: cancel, last: -1}
}

func (r *reader) Size() int64 { return r.info.Size }

// Close ends the stream.
func (r *reader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drop()
}

// ReadAt implements [io.ReaderAt].
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("a blob is read before its begin")
	}
	if off >= r.info.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.info.Size-off
	if short {
		p = p[:r.info.Size-off]
	}
	n, err := r.read(p, off)
	if err == nil && short {
		return n, io.EOF
	}
	return n, classify(describe(r.info.Digest), err)
}

func (r *reader) read(p []byte, off int64) (int, error) {
	if !r.mu.TryLock() {
		return r.once(p, off)
	}
	defer r.mu.Unlock()
	if r.body != nil && r.at != off {
		if r.last != off {
			n, err := r.once(p, off)
			r.last = off + int64(n)
			return n, err
		}
		r.drop()
	}
	r.at = off
	return r.stream(p)
}

// stream fills p from the stream, which is opened anew when it breaks.
func (r *reader) stream(p []byte) (n int, err error) {
	for try := 0; n < len(p); {
		if r.body == nil {
			r.body, err = r.from(r.at, r.info.Size-1)
		}
		if err == nil {
			var got int
			got, err = io.ReadFull(r.body, p[n:])
			n, r.at = n+got, r.at+int64(got)
			if got > 0 {
				try = 0
			}
		}
		if err == nil {
			return n, nil
		}
		r.drop()
		if try++; try >= r.s.cfg.Tries || !r.pause(try) {
			return n, err
		}
		err = nil
	}
	return n, nil
}

// once reads a range by a question of its own.
func (r *reader) once(p []byte, off int64) (int, error) {
	body, err := r.from(off, off+int64(len(p))-1)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.ReadFull(body, p)
}

func (r *reader) from(first, last int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if err := o.SetRange(first, last); err != nil {
		return nil, err
	}
	body, _, _, err := r.s.core.GetObject(r.ctx, r.s.cfg.Bucket, r.s.blobKey(r.info.Digest), o)
	return body, err
}

func (r *reader) drop() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// pause waits a little more each time; false if the reader was closed.
func (r *reader) pause(try int) bool {
	select {
	case <-r.ctx.Done():
		return false
	case <-time.After(time.Duration(try) * minio.DefaultRetryUnit):
		return true
	}
}
