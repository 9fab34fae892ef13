package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Version serves the version service.
type Version struct {
	wire.UnimplementedVersionServer
	Release, Revision string
}

// Register implements Service.
func (s *Version) Register(r grpc.ServiceRegistrar) { wire.RegisterVersionServer(r, s) }

// Version tells the release.
func (s *Version) Version(context.Context, *emptypb.Empty) (*wire.VersionResponse, error) {
	return &wire.VersionResponse{Version: s.Release, Revision: s.Revision}, nil
}
