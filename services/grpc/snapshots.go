package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/snapshotters"
)

// listBatch is how many snapshots one message of a list carries.
const listBatch = 100

// Snapshots serves the snapshots service for every snapshotter.
type Snapshots struct {
	wire.UnimplementedSnapshotsServer
	// Find returns a snapshotter by name; empty is the default.
	Find func(name string) (snapshotters.Snapshotter, error)
}

// Register implements Service.
func (s *Snapshots) Register(r grpc.ServiceRegistrar) { wire.RegisterSnapshotsServer(r, s) }

// Prepare makes an active snapshot.
func (s *Snapshots) Prepare(ctx context.Context, r *wire.PrepareSnapshotRequest) (*wire.PrepareSnapshotResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	m, err := ss.Prepare(ctx, r.Key, r.Parent, r.Labels)
	return &wire.PrepareSnapshotResponse{Mounts: protobuf.ToMounts(m)}, err
}

// View makes a read-only snapshot.
func (s *Snapshots) View(ctx context.Context, r *wire.ViewSnapshotRequest) (*wire.ViewSnapshotResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	m, err := ss.View(ctx, r.Key, r.Parent, r.Labels)
	return &wire.ViewSnapshotResponse{Mounts: protobuf.ToMounts(m)}, err
}

// Mounts tells how to mount a snapshot.
func (s *Snapshots) Mounts(ctx context.Context, r *wire.MountsRequest) (*wire.MountsResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	m, err := ss.Mounts(ctx, r.Key)
	return &wire.MountsResponse{Mounts: protobuf.ToMounts(m)}, err
}

// Commit makes an active snapshot immutable.
func (s *Snapshots) Commit(ctx context.Context, r *wire.CommitSnapshotRequest) (*emptypb.Empty, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, ss.Commit(ctx, r.Name, r.Key, r.Labels)
}

// Remove deletes a snapshot.
func (s *Snapshots) Remove(ctx context.Context, r *wire.RemoveSnapshotRequest) (*emptypb.Empty, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, ss.Remove(ctx, r.Key)
}

// Stat tells what is known of a snapshot.
func (s *Snapshots) Stat(ctx context.Context, r *wire.StatSnapshotRequest) (*wire.StatSnapshotResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	i, err := ss.Stat(ctx, r.Key)
	return &wire.StatSnapshotResponse{Info: protobuf.ToSnapshotInfo(i)}, err
}

// Update changes labels.
func (s *Snapshots) Update(ctx context.Context, r *wire.UpdateSnapshotRequest) (*wire.UpdateSnapshotResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	i, err := ss.Update(ctx, protobuf.FromSnapshotInfo(r.Info), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateSnapshotResponse{Info: protobuf.ToSnapshotInfo(i)}, err
}

// List sends the snapshots that match, in batches.
func (s *Snapshots) List(r *wire.ListSnapshotsRequest, out wire.Snapshots_ListServer) error {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return err
	}
	var batch []*wire.Info
	err = ss.Walk(out.Context(), func(_ context.Context, i snapshotters.Info) error {
		if batch = append(batch, protobuf.ToSnapshotInfo(i)); len(batch) < listBatch {
			return nil
		}
		full := batch
		batch = nil
		return out.Send(&wire.ListSnapshotsResponse{Info: full})
	}, r.Filters...)
	if err == nil && len(batch) > 0 {
		err = out.Send(&wire.ListSnapshotsResponse{Info: batch})
	}
	return err
}

// Usage measures a snapshot.
func (s *Snapshots) Usage(ctx context.Context, r *wire.UsageRequest) (*wire.UsageResponse, error) {
	ss, err := s.Find(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	u, err := ss.Usage(ctx, r.Key)
	return &wire.UsageResponse{Size: u.Size, Inodes: u.Inodes}, err
}

// Cleanup has nothing to do: removal frees what it removes.
func (s *Snapshots) Cleanup(_ context.Context, r *wire.CleanupRequest) (*emptypb.Empty, error) {
	_, err := s.Find(r.Snapshotter)
	return &emptypb.Empty{}, err
}
