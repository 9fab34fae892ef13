// Package proxy is a content store in another process, behind containerd's
// content service.
//
// The remote sees one namespace, "orlop", and the refs and digests as they are.
// Blobs are given the label containerd.io/gc.root, so that a remote with a
// collector of its own leaves them alone. Durability after Commit is the remote's
// promise.
//
// Methods are safe for concurrent use; a Writer is for one goroutine. A Writer
// lives as long as the context it was opened with: what was written stays with
// the remote when that ends. The connection belongs to its owner.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	wire "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/protobuf"
)

// namespace is told to remotes that want one.
const namespace = "orlop"

// Store is the store.
type Store struct {
	client wire.ContentClient
	name   string
}

var _ content.Store = (*Store)(nil)

// New talks to the content service behind conn; the name is for messages.
func New(conn grpc.ClientConnInterface, name string) *Store {
	return &Store{client: wire.NewContentClient(conn), name: name}
}

func outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
}

func (s *Store) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("remote content store %s: %w", s.name, errgrpc.ToNative(err))
}

func check(dgst digest.Digest) error {
	if err := dgst.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Info implements [content.Manager].
func (s *Store) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	if err := check(dgst); err != nil {
		return content.Info{}, err
	}
	r, err := s.client.Info(outgoing(ctx), &wire.InfoRequest{Digest: dgst.String()})
	if err != nil {
		return content.Info{}, s.wrap(err)
	}
	return s.info(r.GetInfo())
}

// info reads what a remote tells; it isn't trusted to send a digest.
func (s *Store) info(i *wire.Info) (content.Info, error) {
	out := protobuf.FromContentInfo(i)
	if err := check(out.Digest); err != nil || out.Size < 0 {
		return out, fmt.Errorf("remote content store %s describes a blob as %q with %d bytes: %w", s.name, out.Digest, out.Size, errdefs.ErrUnknown)
	}
	return out, nil
}

// Update implements [content.Manager].
func (s *Store) Update(ctx context.Context, info content.Info, fieldpaths ...string) (content.Info, error) {
	req := &wire.UpdateRequest{Info: protobuf.ToContentInfo(info)}
	if len(fieldpaths) > 0 {
		req.UpdateMask = &fieldmaskpb.FieldMask{Paths: fieldpaths}
	}
	r, err := s.client.Update(outgoing(ctx), req)
	if err != nil {
		return content.Info{}, s.wrap(err)
	}
	return s.info(r.GetInfo())
}

// Walk implements [content.Manager].
func (s *Store) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	stream, err := s.client.List(ctx, &wire.ListContentRequest{Filters: filters})
	if err != nil {
		return s.wrap(err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.wrap(err)
		}
		for _, i := range r.GetInfo() {
			info, err := s.info(i)
			if err != nil {
				return err
			}
			if err := fn(info); err != nil {
				return err
			}
		}
	}
}

// Delete implements [content.Manager].
func (s *Store) Delete(ctx context.Context, dgst digest.Digest) error {
	_, err := s.client.Delete(outgoing(ctx), &wire.DeleteContentRequest{Digest: dgst.String()})
	return s.wrap(err)
}

// Status implements [content.IngestManager].
func (s *Store) Status(ctx context.Context, ref string) (content.Status, error) {
	r, err := s.client.Status(outgoing(ctx), &wire.StatusRequest{Ref: ref})
	if err != nil {
		return content.Status{}, s.wrap(err)
	}
	return protobuf.FromContentStatus(r.GetStatus()), nil
}

// ListStatuses implements [content.IngestManager].
func (s *Store) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	r, err := s.client.ListStatuses(outgoing(ctx), &wire.ListStatusesRequest{Filters: filters})
	if err != nil {
		return nil, s.wrap(err)
	}
	return protobuf.Each(r.GetStatuses(), protobuf.FromContentStatus), nil
}

// Abort implements [content.IngestManager].
func (s *Store) Abort(ctx context.Context, ref string) error {
	_, err := s.client.Abort(outgoing(ctx), &wire.AbortRequest{Ref: ref})
	return s.wrap(err)
}

// ReaderAt implements [content.Provider].
func (s *Store) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	info, err := s.Info(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(outgoing(ctx))
	return &reader{s: s, ctx: ctx, cancel: cancel, dgst: info.Digest, size: info.Size}, nil
}

// Writer implements [content.Ingester].
func (s *Store) Writer(ctx context.Context, opts content.WriterOptions) (content.Writer, error) {
	ctx, cancel := context.WithCancel(outgoing(ctx))
	stream, err := s.client.Write(ctx)
	if err != nil {
		cancel()
		return nil, s.wrap(err)
	}
	w := &writer{s: s, stream: stream, cancel: cancel, ref: opts.Ref}
	_, err = w.call(&wire.WriteContentRequest{
		Action: wire.WriteAction_STAT, Ref: opts.Ref, Total: opts.Descriptor.Size, Expected: opts.Descriptor.Digest.String(),
	})
	if err != nil {
		cancel()
		return nil, err
	}
	w.status.Expected, w.status.Total = opts.Descriptor.Digest, opts.Descriptor.Size
	return w, nil
}

// rootLabel keeps a remote's collector away.
func rootLabel(labels map[string]string) map[string]string {
	out := map[string]string{label.GCRoot: time.Now().UTC().Format(time.RFC3339)}
	for k, v := range labels {
		out[k] = v
	}
	return out
}
