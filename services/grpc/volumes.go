package grpc

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	wire "github.com/orlop/orlop/api/orlop/volume/v1"
	core "github.com/orlop/orlop/core/volume"
	"github.com/orlop/orlop/services/volume"
)

// Volumes serves Orlop's own service of volumes.
type Volumes struct {
	wire.UnimplementedVolumesServer
	Service *volume.Service
}

// Register implements Service.
func (s *Volumes) Register(r grpc.ServiceRegistrar) { wire.RegisterVolumesServer(r, s) }

func (s *Volumes) toWire(ctx context.Context, v core.Volume, sizes bool) (*wire.Volume, error) {
	out := &wire.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: s.Service.Path(v), Options: v.Options, Labels: v.Labels,
		Anonymous: v.Anonymous, CreatedAt: timestamppb.New(v.Created), Holders: s.Service.Holders(v.Name)}
	if sizes {
		n, err := s.Service.Usage(ctx, v)
		if err != nil {
			return nil, err
		}
		out.Size = &n
	}
	return out, nil
}

// List returns all volumes.
func (s *Volumes) List(ctx context.Context, r *wire.ListRequest) (*wire.ListResponse, error) {
	all, err := s.Service.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &wire.ListResponse{}
	for _, v := range all {
		w, err := s.toWire(ctx, v, r.Sizes)
		if err != nil {
			return nil, err
		}
		resp.Volumes = append(resp.Volumes, w)
	}
	return resp, nil
}

// Create makes or finds a volume.
func (s *Volumes) Create(ctx context.Context, r *wire.CreateRequest) (*wire.CreateResponse, error) {
	v, created, err := s.Service.Create(ctx, volume.Request{Name: r.Name, Driver: r.Driver, Options: r.Options, Labels: r.Labels}, "")
	if err != nil {
		return nil, err
	}
	w, err := s.toWire(ctx, v, false)
	return &wire.CreateResponse{Volume: w, Created: created}, err
}

// Get returns one volume.
func (s *Volumes) Get(ctx context.Context, r *wire.GetRequest) (*wire.GetResponse, error) {
	v, err := s.Service.Get(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	w, err := s.toWire(ctx, v, r.Size)
	return &wire.GetResponse{Volume: w}, err
}

// Remove removes a volume.
func (s *Volumes) Remove(ctx context.Context, r *wire.RemoveRequest) (*wire.RemoveResponse, error) {
	return &wire.RemoveResponse{}, s.Service.Remove(ctx, r.Name)
}

// backupChunk is how much of an archive a message takes, in bytes: a sixteenth of
// what clients of gRPC accept by default.
const backupChunk = 256 << 10

// Backup sends a volume's files.
func (s *Volumes) Backup(r *wire.BackupRequest, out grpc.ServerStreamingServer[wire.BackupResponse]) error {
	return s.Service.Backup(out.Context(), r.Name, backupWriter{out})
}

// backupWriter sends what is written, in messages that are not too long.
type backupWriter struct {
	out grpc.ServerStreamingServer[wire.BackupResponse]
}

// Write sends p.
func (w backupWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), backupChunk)
		if err := w.out.Send(&wire.BackupResponse{Data: p[:k]}); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

// Restore puts an archive's files into a volume.
func (s *Volumes) Restore(in grpc.ClientStreamingServer[wire.RestoreRequest, wire.RestoreResponse]) error {
	first, err := in.Recv()
	if err != nil {
		return err
	}
	if first.Name == "" {
		return fmt.Errorf("the first message names no volume: %w", errdefs.ErrInvalidArgument)
	}
	ctx, created := in.Context(), false
	if first.Create {
		if _, created, err = s.Service.Create(ctx, volume.Request{Name: first.Name}, ""); err != nil {
			return err
		}
	}
	err = s.Service.Restore(ctx, first.Name, &restoreReader{in: in, left: first.Data})
	if err != nil {
		if created { // it was made for this alone, and is empty
			_ = s.Service.Remove(ctx, first.Name)
		}
		return err
	}
	got, err := s.Get(ctx, &wire.GetRequest{Name: first.Name})
	if err != nil {
		return err
	}
	return in.SendAndClose(&wire.RestoreResponse{Volume: got.Volume})
}

// restoreReader reads what a client sends.
type restoreReader struct {
	in   grpc.ClientStreamingServer[wire.RestoreRequest, wire.RestoreResponse]
	left []byte
}

// Read reads on, from the next message where needed.
func (r *restoreReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		m, err := r.in.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.left = m.Data
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

var _ io.Reader = (*restoreReader)(nil)
