package proxy_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	wire "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/overlayfs"
	"github.com/orlop/orlop/snapshotters/proxy"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

// remote is a snapshots service with containerd's rules (one space of keys and
// names, committing renames) on a driver of ours.
type remote struct {
	wire.UnimplementedSnapshotsServer
	driver snapshotters.Driver

	mu    sync.Mutex
	known map[string]snapshotters.Storage
}

func (r *remote) create(ctx context.Context, key, parent string, kind snapshotters.Kind) ([]mount.Mount, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[key]; ok {
		return nil, errgrpc.ToGRPC(errdefs.ErrAlreadyExists)
	}
	s := snapshotters.Storage{ID: "r-" + strings.TrimSuffix(key, ".c"), Kind: kind}
	if parent != "" {
		p, ok := r.known[parent]
		if !ok || p.Kind != snapshotters.KindCommitted {
			return nil, errgrpc.ToGRPC(errdefs.ErrNotFound)
		}
		s.Parents = append([]string{p.ID}, p.Parents...)
	}
	ms, err := r.driver.Create(ctx, s)
	if err == nil {
		r.known[key] = s
	}
	return ms, err
}

func (r *remote) Prepare(ctx context.Context, q *wire.PrepareSnapshotRequest) (*wire.PrepareSnapshotResponse, error) {
	ms, err := r.create(ctx, q.Key, q.Parent, snapshotters.KindActive)
	return &wire.PrepareSnapshotResponse{Mounts: protobuf.ToMounts(ms)}, err
}

func (r *remote) View(ctx context.Context, q *wire.ViewSnapshotRequest) (*wire.ViewSnapshotResponse, error) {
	ms, err := r.create(ctx, q.Key, q.Parent, snapshotters.KindView)
	return &wire.ViewSnapshotResponse{Mounts: protobuf.ToMounts(ms)}, err
}

func (r *remote) get(key string) (snapshotters.Storage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.known[key]
	if !ok {
		return s, errgrpc.ToGRPC(errdefs.ErrNotFound)
	}
	return s, nil
}

func (r *remote) Mounts(ctx context.Context, q *wire.MountsRequest) (*wire.MountsResponse, error) {
	s, err := r.get(q.Key)
	if err != nil {
		return nil, err
	}
	ms, err := r.driver.Mounts(ctx, s)
	return &wire.MountsResponse{Mounts: protobuf.ToMounts(ms)}, err
}

func (r *remote) Commit(ctx context.Context, q *wire.CommitSnapshotRequest) (*emptypb.Empty, error) {
	s, err := r.get(q.Key)
	if err != nil {
		return nil, err
	}
	if _, err := r.get(q.Name); err == nil {
		return nil, errgrpc.ToGRPC(errdefs.ErrAlreadyExists)
	}
	if _, err := r.driver.Commit(ctx, s); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Kind = snapshotters.KindCommitted
	delete(r.known, q.Key)
	r.known[q.Name] = s
	return &emptypb.Empty{}, nil
}

func (r *remote) Usage(ctx context.Context, q *wire.UsageRequest) (*wire.UsageResponse, error) {
	s, err := r.get(q.Key)
	if err != nil {
		return nil, err
	}
	u, err := r.driver.Usage(ctx, s)
	return &wire.UsageResponse{Size: u.Size, Inodes: u.Inodes}, err
}

func (r *remote) Remove(ctx context.Context, q *wire.RemoveSnapshotRequest) (*emptypb.Empty, error) {
	s, err := r.get(q.Key)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, q.Key)
	return &emptypb.Empty{}, r.driver.Remove(ctx, s.ID)
}

func (r *remote) List(_ *wire.ListSnapshotsRequest, out wire.Snapshots_ListServer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	infos := []*wire.Info{{Name: "somebody-else's"}}
	for k := range r.known {
		infos = append(infos, &wire.Info{Name: k})
	}
	return out.Send(&wire.ListSnapshotsResponse{Info: infos})
}

func TestConformance(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) snapshotters.Driver {
		driver, err := overlayfs.Open(t.TempDir(), overlayfs.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { driver.Close() })
		server := grpc.NewServer()
		wire.RegisterSnapshotsServer(server, &remote{driver: driver, known: map[string]snapshotters.Storage{}})
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go server.Serve(l)
		t.Cleanup(server.Stop)
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return proxy.New(conn, "test")
	})
}
