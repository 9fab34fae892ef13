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
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/protobuf"
)

// readChunk is how many bytes of a blob one message carries.
const readChunk = 1 << 20

// Content serves the content service.
type Content struct {
	wire.UnimplementedContentServer
	Store content.Store
}

// Register implements Service.
func (s *Content) Register(r grpc.ServiceRegistrar) { wire.RegisterContentServer(r, s) }

func parseDigest(text string) (digest.Digest, error) {
	d, err := digest.Parse(text)
	if err != nil {
		return "", fmt.Errorf("digest %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return d, nil
}

// Info tells what is known of a blob.
func (s *Content) Info(ctx context.Context, r *wire.InfoRequest) (*wire.InfoResponse, error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	i, err := s.Store.Info(ctx, d)
	return &wire.InfoResponse{Info: protobuf.ToContentInfo(i)}, err
}

// Update changes labels.
func (s *Content) Update(ctx context.Context, r *wire.UpdateRequest) (*wire.UpdateResponse, error) {
	if _, err := parseDigest(r.Info.GetDigest()); err != nil {
		return nil, err
	}
	i, err := s.Store.Update(ctx, protobuf.FromContentInfo(r.Info), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateResponse{Info: protobuf.ToContentInfo(i)}, err
}

// List sends the blobs that match, in batches.
func (s *Content) List(r *wire.ListContentRequest, out wire.Content_ListServer) error {
	var batch []*wire.Info
	err := s.Store.Walk(out.Context(), func(i content.Info) error {
		if batch = append(batch, protobuf.ToContentInfo(i)); len(batch) < listBatch {
			return nil
		}
		full := batch
		batch = nil
		return out.Send(&wire.ListContentResponse{Info: full})
	}, r.Filters...)
	if err == nil && len(batch) > 0 {
		err = out.Send(&wire.ListContentResponse{Info: batch})
	}
	return err
}

// Delete removes a blob.
func (s *Content) Delete(ctx context.Context, r *wire.DeleteContentRequest) (*emptypb.Empty, error) {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.Store.Delete(ctx, d)
}

// Read streams a range of a blob; size 0 reads to the end.
func (s *Content) Read(r *wire.ReadContentRequest, out wire.Content_ReadServer) error {
	d, err := parseDigest(r.Digest)
	if err != nil {
		return err
	}
	ra, err := s.Store.ReaderAt(out.Context(), ocispec.Descriptor{Digest: d})
	if err != nil {
		return err
	}
	defer ra.Close()
	size := r.Size
	if rest := ra.Size() - r.Offset; size == 0 || size > rest {
		size = rest // as containerd: a reader asks for what its buffer takes
	}
	if r.Offset < 0 || size < 0 {
		return fmt.Errorf("range %d+%d is outside of blob %s, which has %d bytes: %w", r.Offset, r.Size, d, ra.Size(), errdefs.ErrOutOfRange)
	}
	buf := make([]byte, min(size, readChunk))
	for offset, end := r.Offset, r.Offset+size; offset < end; {
		n, err := ra.ReadAt(buf[:min(int64(len(buf)), end-offset)], offset)
		if n > 0 {
			if err := out.Send(&wire.ReadContentResponse{Offset: offset, Data: buf[:n]}); err != nil {
				return err
			}
			offset += int64(n)
		}
		if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	return nil
}

// Status tells where an ingest stands.
func (s *Content) Status(ctx context.Context, r *wire.StatusRequest) (*wire.StatusResponse, error) {
	st, err := s.Store.Status(ctx, r.Ref)
	return &wire.StatusResponse{Status: protobuf.ToContentStatus(st)}, err
}

// ListStatuses returns the ingests that match.
func (s *Content) ListStatuses(ctx context.Context, r *wire.ListStatusesRequest) (*wire.ListStatusesResponse, error) {
	all, err := s.Store.ListStatuses(ctx, r.Filters...)
	return &wire.ListStatusesResponse{Statuses: protobuf.Each(all, protobuf.ToContentStatus)}, err
}

// Abort drops an ingest.
func (s *Content) Abort(ctx context.Context, r *wire.AbortRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Store.Abort(ctx, r.Ref)
}
