package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	wire "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// reader reads a blob. Reads that follow one another share a stream, so that a
// copy in small steps is one call; the others get a call of their own.
type reader struct {
	s      *Store
	ctx    context.Context
	cancel context.CancelFunc
	dgst   digest.Digest
	size   int64

	mu     sync.Mutex
	stream *stream
}

func (r *reader) Size() int64 { return r.size }

// Close ends the calls under way.
func (r *reader) Close() error {
	r.cancel()
	return nil
}

// ReadAt implements [io.ReaderAt].
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("blob %s: offset %d: %w", r.dgst, off, errdefs.ErrInvalidArgument)
	case off >= r.size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if r.mu.TryLock() {
		defer r.mu.Unlock()
		return r.follow(p, off)
	}
	st, err := r.open(off, min(int64(len(p)), r.size-off))
	if err != nil {
		return 0, err
	}
	defer st.cancel()
	return r.whole(st.read(p))
}

// follow reads from the shared stream, or begins one at off.
func (r *reader) follow(p []byte, off int64) (int, error) {
	if r.stream == nil || r.stream.next != off {
		if r.stream != nil {
			r.stream.cancel()
		}
		st, err := r.open(off, r.size-off)
		if err != nil {
			r.stream = nil
			return 0, err
		}
		r.stream = st
	}
	n, err := r.whole(r.stream.read(p))
	if err != nil {
		r.stream.cancel()
		r.stream = nil
	}
	return n, err
}

func (r *reader) whole(n int, err error) (int, error) {
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.s.wrap(err)
	}
	return n, err
}

func (r *reader) open(off, size int64) (*stream, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	in, err := r.s.client.Read(ctx, &wire.ReadContentRequest{Digest: r.dgst.String(), Offset: off, Size: size})
	if err != nil {
		cancel()
		return nil, r.s.wrap(err)
	}
	return &stream{in: in, cancel: cancel, next: off, end: off + size}, nil
}

// stream is one call that sends a range.
type stream struct {
	in        wire.Content_ReadClient
	cancel    context.CancelFunc
	rest      []byte // received, not yet read
	next, end int64
}

// read fills p, or reads to the end of the range and returns [io.EOF].
func (s *stream) read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(s.rest) == 0 {
			if s.next >= s.end {
				return n, io.EOF
			}
			if err := s.receive(); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], s.rest)
		n, s.rest, s.next = n+k, s.rest[k:], s.next+int64(k)
	}
	return n, nil
}

func (s *stream) receive() error {
	m, err := s.in.Recv()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if m.Offset != s.next || int64(len(m.Data)) > s.end-s.next {
		return fmt.Errorf("sent %d bytes at %d, where %d to %d were due: %w", len(m.Data), m.Offset, s.next, s.end, errdefs.ErrUnknown)
	}
	s.rest = m.Data
	return nil
}
