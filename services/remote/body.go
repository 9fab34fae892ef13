package remote

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// leastBytes is what an answer must bring in each stall timeout: a registry that
// sends a byte now and then would hold a download's place for ever.
const leastBytes = 1 << 10

// body is an answer's body that ends with an error when it stalls. Only the time
// spent waiting for the registry counts, not what the reader takes. It is for one
// goroutine.
type body struct {
	io.ReadCloser
	cancel  context.CancelFunc
	timer   *time.Timer
	every   time.Duration
	waited  time.Duration // since leastBytes were read
	read    int           // since then
	stalled atomic.Bool
}

// watch looks after a body until it is closed; then cancel ends its request.
func watch(r io.ReadCloser, every time.Duration, cancel context.CancelFunc) io.ReadCloser {
	b := &body{ReadCloser: r, cancel: cancel, every: every}
	b.timer = time.AfterFunc(every, func() {
		b.stalled.Store(true)
		cancel()
	})
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	begin := time.Now()
	b.timer.Reset(max(b.every-b.waited, time.Millisecond))
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.waited += time.Since(begin)
	if b.read += n; b.read >= leastBytes {
		b.read, b.waited = 0, 0
	}
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case b.stalled.Load():
		return n, fmt.Errorf("the registry sent fewer than %d bytes in %v: %w", leastBytes, b.every, errdefs.ErrUnavailable)
	}
	return n, unreachable(err)
}

// Close ends the request, read to its end or not.
func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// sent is a request's body that notices when nobody takes it.
type sent struct {
	io.ReadCloser
	timer *time.Timer
	every time.Duration
}

func watchSent(r io.ReadCloser, every time.Duration, stalled func()) io.ReadCloser {
	return &sent{r, time.AfterFunc(every, stalled), every}
}

func (s *sent) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		s.timer.Stop()
	} else {
		s.timer.Reset(s.every)
	}
	return n, err
}

// Close ends the watch.
func (s *sent) Close() error {
	s.timer.Stop()
	return s.ReadCloser.Close()
}
