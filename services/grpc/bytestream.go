package grpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/services/streaming"
)

const (
	// dataSize is the size of data messages; containerd's clients use it.
	dataSize = 32 << 10
	// readWindow is how many bytes a client may be ahead of us, and with it the
	// memory that a stream takes.
	readWindow = 1 << 20
	// maxWindow bounds how far a client lets us be ahead.
	maxWindow = 1 << 30
	// drainWait is how long the end of an archive may take to be read.
	drainWait = 10 * time.Second
)

// byteReader reads the data messages of a stream and tells the sender how far it
// may go. It is for one goroutine.
type byteReader struct {
	s      streaming.Stream
	window int // what the sender may still send
	buf    []byte
}

// Read implements io.Reader.
func (r *byteReader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

func (r *byteReader) fill() error {
	if r.window <= readWindow/2 {
		more := readWindow - r.window
		if err := r.s.Send(toAny(&transfer.WindowUpdate{Update: int32(more)})); err != nil && !errors.Is(err, io.EOF) {
			return streamError(err)
		}
		r.window += more
	}
	a, err := r.s.Recv()
	if err != nil {
		return streamError(err)
	}
	var d transfer.Data
	if err := fromAny(a, &d); err != nil {
		return err
	}
	if r.window -= len(d.Data); r.window < 0 {
		return fmt.Errorf("the client sent %d bytes more than it may: %w", -r.window, errdefs.ErrFailedPrecondition)
	}
	r.buf = d.Data
	return nil
}

// streamError makes an error of a vanished client; the regular end stays io.EOF.
func streamError(err error) error {
	if status.Code(err) == codes.Canceled || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("the stream was broken off: %w", context.Canceled)
	}
	return err
}

// byteWriter sends data messages as far as the receiver's window lets it.
type byteWriter struct {
	ctx context.Context
	s   streaming.Stream
	buf *bufio.Writer

	mu    sync.Mutex
	left  int64 // what the receiver lets us send
	first int64 // its first update: the window that it likes to keep
	gone  bool  // no more updates come
	wake  chan struct{}
}

// newByteWriter begins to listen for window updates, until the stream is closed.
func newByteWriter(ctx context.Context, s streaming.Stream) *byteWriter {
	w := &byteWriter{ctx: ctx, s: s, wake: make(chan struct{}, 1)}
	w.buf = bufio.NewWriterSize(writerFunc(w.send), dataSize)
	go w.listen()
	return w
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (w *byteWriter) listen() {
	for {
		a, err := w.s.Recv()
		var u transfer.WindowUpdate
		if err == nil {
			err = fromAny(a, &u)
		}
		w.mu.Lock()
		if err != nil || u.Update < 0 {
			w.gone = true
		} else {
			if w.first == 0 {
				w.first = int64(u.Update)
			}
			w.left = min(w.left+int64(u.Update), maxWindow)
		}
		gone := w.gone
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
		if gone {
			return
		}
	}
}

// wait returns when enough says so, or the receiver has gone.
func (w *byteWriter) wait(ctx context.Context, enough func() bool) (gone bool, err error) {
	for {
		w.mu.Lock()
		ok, gone := enough(), w.gone
		w.mu.Unlock()
		if ok || gone {
			return !ok, nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// Write implements io.Writer.
func (w *byteWriter) Write(p []byte) (int, error) { return w.buf.Write(p) }

func (w *byteWriter) send(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		gone, err := w.wait(w.ctx, func() bool { return w.left > 0 })
		if err != nil {
			return sent, err
		}
		if gone {
			return sent, fmt.Errorf("the client reads no further: %w", context.Canceled)
		}
		w.mu.Lock()
		n := int(min(w.left, dataSize, int64(len(p)-sent)))
		w.left -= int64(n)
		w.mu.Unlock()
		if err := w.s.Send(toAny(&transfer.Data{Data: p[sent : sent+n]})); err != nil {
			return sent, streamError(err)
		}
		sent += n
	}
	return sent, nil
}

// Close sends what is left, waits until the receiver has read it, because the
// answer to the call may overtake it, and ends the stream.
func (w *byteWriter) Close() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, drainWait)
	defer cancel()
	_, _ = w.wait(ctx, func() bool { return w.left >= w.first }) // a receiver that keeps another window just waits
	return w.s.Close()
}
