package grpc

import (
	"context"
	"fmt"

	wire "github.com/containerd/containerd/api/services/transfer/v1"
	types "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/streaming"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
)

// Transfer serves the transfer service.
type Transfer struct {
	wire.UnimplementedTransferServer
	Service *transfer.Service
	Streams *streaming.Manager
}

// Register implements Service.
func (s *Transfer) Register(r grpc.ServiceRegistrar) { wire.RegisterTransferServer(r, s) }

// Transfer moves images from a source to a destination. The streams that they
// name end with the call, and at once when it is cancelled.
func (s *Transfer) Transfer(ctx context.Context, r *wire.TransferRequest) (*emptypb.Empty, error) {
	c := &transferCall{ctx: ctx, streams: s.Streams}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	from, err := c.decode(r.Source)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	to, err := c.decode(r.Destination)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	report, finish, err := c.progress(r.Options.GetProgressStream())
	if err != nil {
		return nil, err
	}
	defer finish()
	if err := s.Service.Transfer(ctx, from, to, report); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// decode reads a source or destination.
func (c *transferCall) decode(a *anypb.Any) (any, error) {
	if a == nil {
		return nil, fmt.Errorf("none is given: %w", errdefs.ErrInvalidArgument)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("type %.100q: %w: %w", a.TypeUrl, err, errdefs.ErrNotImplemented)
	}
	switch m := m.(type) {
	case *types.ImageStore:
		return fromImageStore(m), nil
	case *types.OCIRegistry:
		return c.registry(m)
	case *types.ImageImportStream:
		st, err := c.claim(m.Stream)
		if err != nil {
			return nil, err
		}
		return transfer.Import{From: &byteReader{s: st}, Compress: m.ForceCompress}, nil
	case *types.ImageExportStream:
		st, err := c.claim(m.Stream)
		if err != nil {
			return nil, err
		}
		return transfer.Export{To: newByteWriter(c.ctx, st), Options: archive.ExportOptions{
			Platforms: protobuf.Each(m.Platforms, protobuf.FromPlatform), AllPlatforms: m.AllPlatforms,
			SkipDocker: m.SkipCompatibilityManifest, SkipForeign: m.SkipNonDistributable,
		}}, nil
	}
	return nil, fmt.Errorf("type %.100q: %w", a.TypeUrl, errdefs.ErrNotImplemented)
}

func fromImageStore(m *types.ImageStore) transfer.Store {
	return transfer.Store{
		Name: m.Name, Labels: m.Labels, AllMetadata: m.AllMetadata, Limit: int(min(m.ManifestLimit, 1<<20)),
		Platforms: protobuf.Each(m.Platforms, protobuf.FromPlatform),
		Extra: protobuf.Each(m.ExtraReferences, func(r *types.ImageReference) transfer.Reference {
			return transfer.Reference{
				Name: r.Name, Prefix: r.IsPrefix, Overwrite: r.AllowOverwrite, AddDigest: r.AddDigest, SkipNamedDigest: r.SkipNamedDigest,
			}
		}),
		Unpacks: protobuf.Each(m.Unpacks, func(u *types.UnpackConfiguration) unpack.Target {
			return unpack.Target{Platform: protobuf.FromPlatform(u.Platform), Snapshotter: u.Snapshotter}
		}),
	}
}

func (c *transferCall) registry(m *types.OCIRegistry) (any, error) {
	res := m.GetResolver()
	r := transfer.Registry{Reference: m.Reference, HostDir: res.GetHostDir(), Header: res.GetHeaders()}
	switch res.GetDefaultScheme() {
	case "", "https":
	case "http":
		r.PlainHTTP = true
	default:
		return nil, fmt.Errorf("scheme %.20q is neither http nor https: %w", res.GetDefaultScheme(), errdefs.ErrInvalidArgument)
	}
	if id := res.GetAuthStream(); id != "" {
		st, err := c.claim(id)
		if err != nil {
			return nil, err
		}
		r.Credentials = (&authStream{s: st, reference: m.Reference, known: map[string]remote.Credentials{}}).ask
	}
	return r, nil
}
