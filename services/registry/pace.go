package registry

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// leastProgress is what must come, or go, in [Bounds].Stall, in bytes.
	leastProgress = 16 << 10
	// paceChunk is how much is sent under one time limit, in bytes: large, for the
	// kernel to send it at once, and so small that who takes it within a minute is slow.
	paceChunk = 512 << 10
)

// paced gives up connections on which next to nothing moves. Large and slow is all
// right: there is no limit for a request as a whole.
func paced(stall time.Duration, next http.Handler) http.Handler {
	if stall <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.SetWriteDeadline(time.Time{}) // that of the connection's last request
		in := &pacedBody{ReadCloser: r.Body, rc: rc, stall: stall}
		r.Body = in
		defer func() {
			// What is left of the body, and of the answer, is moved by the server.
			if !in.ended {
				rc.SetReadDeadline(time.Now().Add(stall))
			}
			rc.SetWriteDeadline(time.Now().Add(stall))
		}()
		next.ServeHTTP(&pacedWriter{ResponseWriter: w, rc: rc, stall: stall}, r)
	})
}

// pacedBody is a body that must make progress.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	stall time.Duration
	until time.Time
	got   int64 // since the limit was set
	ended bool
}

// Read implements [io.Reader].
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.until.IsZero() || b.got >= leastProgress {
		b.until, b.got = time.Now().Add(b.stall), 0
		b.rc.SetReadDeadline(b.until)
	}
	n, err := b.ReadCloser.Read(p)
	b.got += int64(n)
	if errors.Is(err, io.EOF) {
		// The server reads on, to learn when the client goes.
		b.ended = true
		b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// stalled tells that a read or write was given up.
func stalled(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// pacedWriter is an answer that must be taken.
type pacedWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
}

// Write implements [io.Writer].
func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for {
		w.rc.SetWriteDeadline(time.Now().Add(w.stall))
		got, err := w.ResponseWriter.Write(p[n:min(len(p), n+paceChunk)])
		if n += got; err != nil || n == len(p) {
			return n, err
		}
	}
}

// ReadFrom keeps the way open for the kernel to send files, in pieces.
func (w *pacedWriter) ReadFrom(r io.Reader) (n int64, err error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: 1<<63 - 1}
	}
	for limited.N > 0 {
		w.rc.SetWriteDeadline(time.Now().Add(w.stall))
		piece := &io.LimitedReader{R: limited.R, N: min(limited.N, paceChunk)}
		got, err := io.Copy(w.ResponseWriter, piece)
		n, limited.N = n+got, limited.N-got
		if err != nil || piece.N > 0 {
			return n, err
		}
	}
	return n, nil
}

// Unwrap is for [http.ResponseController].
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
