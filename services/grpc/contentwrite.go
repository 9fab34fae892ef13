package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	wire "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/protobuf"
)

// Write serves one ingest over a stream: the first message opens it, each
// message states, writes or commits, and each is answered. A stream that breaks
// off keeps what was written.
func (s *Content) Write(stream wire.Content_WriteServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := s.openIngest(stream.Context(), first)
	if err != nil {
		return err
	}
	defer in.w.Close()
	for req := first; ; {
		resp, err := in.handle(stream.Context(), req)
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if req.Action == wire.WriteAction_COMMIT {
			return nil
		}
		if req, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// ingest is the state of one Write stream.
type ingest struct {
	w        content.Writer
	total    int64
	expected digest.Digest
	offset   int64
}

func (s *Content) openIngest(ctx context.Context, r *wire.WriteContentRequest) (*ingest, error) {
	if r.Ref == "" {
		return nil, fmt.Errorf("the first message of a write names no ref: %w", errdefs.ErrInvalidArgument)
	}
	in := &ingest{}
	if err := in.expect(r); err != nil {
		return nil, err
	}
	w, err := s.Store.Writer(ctx, content.WriterOptions{Ref: r.Ref, Descriptor: ocispec.Descriptor{Digest: in.expected, Size: in.total}})
	if err != nil {
		return nil, err
	}
	in.w = w
	st, err := w.Status()
	in.offset = st.Offset
	return in, err
}

// expect takes what a message says of the whole. It must not change before the
// commit, whose word is the last.
func (in *ingest) expect(r *wire.WriteContentRequest) error {
	if r.Expected != "" {
		d, err := parseDigest(r.Expected)
		if err != nil {
			return err
		}
		if in.expected != "" && in.expected != d && r.Action != wire.WriteAction_COMMIT {
			return fmt.Errorf("write: expected digest changes from %s to %s: %w", in.expected, d, errdefs.ErrInvalidArgument)
		}
		in.expected = d
	}
	if r.Total > 0 {
		if in.total > 0 && in.total != r.Total && r.Action != wire.WriteAction_COMMIT {
			return fmt.Errorf("write: total changes from %d to %d: %w", in.total, r.Total, errdefs.ErrInvalidArgument)
		}
		in.total = r.Total
	}
	return nil
}

func (in *ingest) handle(ctx context.Context, r *wire.WriteContentRequest) (*wire.WriteContentResponse, error) {
	if err := in.expect(r); err != nil {
		return nil, err
	}
	if r.Action != wire.WriteAction_STAT {
		if err := in.write(r); err != nil {
			return nil, err
		}
	}
	resp := &wire.WriteContentResponse{Action: r.Action, Offset: in.offset, Total: in.total, Digest: in.w.Digest().String()}
	st, err := in.w.Status()
	if err != nil {
		return nil, err
	}
	resp.StartedAt, resp.UpdatedAt = protobuf.ToTime(st.Started), protobuf.ToTime(st.Updated)
	if r.Action == wire.WriteAction_COMMIT {
		err = in.w.Commit(ctx, in.total, in.expected, r.Labels)
	}
	return resp, err
}

// write takes a message's data. Offset 0 on an ingest that has begun starts it
// anew; any other offset must be where it stands.
func (in *ingest) write(r *wire.WriteContentRequest) error {
	switch {
	case r.Offset == in.offset || len(r.Data) == 0 && r.Offset == 0:
	case r.Offset == 0:
		if err := in.w.Truncate(0); err != nil {
			return err
		}
		in.offset = 0
	default:
		return fmt.Errorf("write at offset %d, the ingest stands at %d: %w", r.Offset, in.offset, errdefs.ErrOutOfRange)
	}
	n, err := in.w.Write(r.Data)
	in.offset += int64(n)
	return err
}
