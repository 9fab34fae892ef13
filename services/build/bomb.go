package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/services/archive/packed"
)

// Defaults of what a context may become.
const (
	DefaultContextBytes   = 16 << 30
	DefaultContextEntries = 1_000_000
)

// weighed is an archive on its way to the solver, which unpacks it when it is there: it
// is unpacked here as well, into nothing, and ends with an error when it becomes more
// than it may. Whatever is read was weighed before.
type weighed struct {
	body io.ReadCloser
	to   *io.PipeWriter
	done chan struct{}
	err  error // of weighing, once done
	end  sync.Once
}

// weigh bounds the bytes and entries of an archive; 0 is no bound.
func weigh(body io.ReadCloser, bytes, entries int64) io.ReadCloser {
	if body == nil || bytes <= 0 && entries <= 0 {
		return body
	}
	from, to := io.Pipe()
	w := &weighed{body: body, to: to, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = (&scale{bytes: bytes, entries: entries}).put(from)
		if w.err != nil {
			from.CloseWithError(w.err)
			return
		}
		io.Copy(io.Discard, from) // what follows the archive, or is none
		from.Close()
	}()
	return w
}

// Read implements [io.Reader].
func (w *weighed) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if n > 0 {
		if _, werr := w.to.Write(p[:n]); werr != nil {
			return 0, werr
		}
	}
	if errors.Is(err, io.EOF) {
		w.finish()
		if w.err != nil {
			return 0, w.err
		}
	}
	return n, err
}

func (w *weighed) finish() {
	w.end.Do(func() { w.to.Close() })
	<-w.done
}

// Close ends both.
func (w *weighed) Close() error {
	w.finish()
	return w.body.Close()
}

// scale counts what an archive becomes.
type scale struct{ bytes, entries int64 }

// put returns an error for what is too much, and none for what is no archive, or is
// damaged: the solver, which reads it in the same way, has its own words for that.
func (s *scale) put(in io.Reader) error {
	plain, err := packed.Open(in)
	if err != nil {
		return nil
	}
	defer plain.Close()
	counted := &counter{r: plain, most: s.bytes}
	archive := tar.NewReader(counted)
	for n := int64(1); ; n++ {
		h, err := archive.Next()
		switch {
		case counted.over:
			return s.tooMuch()
		case err != nil:
			return nil
		case s.entries > 0 && n > s.entries:
			return fmt.Errorf("the build's context has more than %d entries (context_entries): %w", s.entries, errdefs.ErrOutOfRange)
		case s.bytes > 0 && h.Size > s.bytes: // a sparse file is larger than its bytes here
			return s.tooMuch()
		}
	}
}

func (s *scale) tooMuch() error {
	return fmt.Errorf("the build's context becomes more than %d bytes when it is unpacked (context_bytes): %w", s.bytes, errdefs.ErrOutOfRange)
}

// counter ends after so many bytes.
type counter struct {
	r       io.Reader
	n, most int64
	over    bool
}

// Read implements [io.Reader].
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); c.most > 0 && c.n > c.most {
		c.over = true
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
