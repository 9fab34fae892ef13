package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	wire "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/protobuf"
)

// maxChunk is how many bytes one message carries; a remote takes 16 MiB, and
// more than one waiting for its answer gains nothing.
const maxChunk = 1 << 20

// writer is one ingest, and the stream that holds it.
type writer struct {
	s      *Store
	stream wire.Content_WriteClient // nil once closed
	cancel context.CancelFunc
	ref    string
	status content.Status
	digest digest.Digest
}

var errClosed = fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)

// call sends one message and awaits its answer.
func (w *writer) call(req *wire.WriteContentRequest) (*wire.WriteContentResponse, error) {
	if w.stream == nil {
		return nil, errClosed
	}
	if err := w.stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		return nil, w.s.wrap(err)
	} // after io.EOF, Recv tells why the stream ended
	resp, err := w.stream.Recv()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, w.s.wrap(err)
	}
	w.digest = digest.Digest(resp.Digest)
	w.status.Ref, w.status.Offset = w.ref, resp.Offset
	w.status.Started, w.status.Updated = protobuf.FromTime(resp.StartedAt), protobuf.FromTime(resp.UpdatedAt)
	return resp, nil
}

func (w *writer) Write(p []byte) (n int, err error) {
	for n < len(p) {
		chunk := p[n:min(n+maxChunk, len(p))]
		at := w.status.Offset
		resp, err := w.call(&wire.WriteContentRequest{Action: wire.WriteAction_WRITE, Offset: at, Data: chunk})
		if err != nil {
			return n, err
		}
		took := int(resp.Offset - at)
		if took <= 0 || took > len(chunk) {
			return n, fmt.Errorf("remote content store %s took %d of %d bytes: %w", w.s.name, took, len(chunk), io.ErrShortWrite)
		}
		n += took
	}
	return n, nil
}

func (w *writer) Digest() digest.Digest { return w.digest }

func (w *writer) Status() (content.Status, error) {
	if w.stream == nil {
		return content.Status{}, errClosed
	}
	return w.status, nil
}

// Truncate takes effect with the next Write: the protocol has no word for it.
func (w *writer) Truncate(size int64) error {
	if w.stream == nil {
		return errClosed
	}
	if size != 0 {
		return fmt.Errorf("ingest %q can only be truncated to 0, not %d: %w", w.ref, size, errdefs.ErrInvalidArgument)
	}
	w.status.Offset = 0
	return nil
}

func (w *writer) Commit(_ context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	if size == 0 {
		size = w.status.Total
	}
	resp, err := w.call(&wire.WriteContentRequest{
		Action: wire.WriteAction_COMMIT, Offset: w.status.Offset, Total: size, Expected: expected.String(), Labels: rootLabel(labels),
	})
	closed := w.Close()
	switch {
	case err != nil:
		return err
	case size > 0 && resp.Offset != size:
		return fmt.Errorf("ingest %q was committed with %d bytes, not %d: %w", w.ref, resp.Offset, size, errdefs.ErrFailedPrecondition)
	case expected != "" && expected != digest.Digest(resp.Digest) && expected.Algorithm() == digest.Digest(resp.Digest).Algorithm():
		return fmt.Errorf("ingest %q was committed as %s, not %s: %w", w.ref, resp.Digest, expected, errdefs.ErrFailedPrecondition)
	}
	return closed
}

// Close waits until the remote has let go of the ref, so that it can be opened
// again at once.
func (w *writer) Close() error {
	if w.stream == nil {
		return nil
	}
	defer w.cancel()
	if w.stream.CloseSend() == nil {
		w.stream.Recv() // io.EOF, or what the call that failed was told already
	}
	w.stream = nil
	return nil
}
