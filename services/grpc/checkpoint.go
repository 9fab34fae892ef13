package grpc

import (
	"context"
	"errors"
	"fmt"
	"os"

	shim "github.com/containerd/containerd/api/runtime/task/v2"
	wire "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/services/checkpoint"
)

// Checkpoints is where checkpoints are while they are on their way.
type Checkpoints struct {
	// Content keeps them as blobs.
	Content content.Store
	// Dir is for their files, until they are in a blob or restored.
	Dir string
}

// folder makes a folder for the files of one; call done when they are not needed any more.
func (c *Checkpoints) folder() (dir string, done func() error, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp(c.Dir, "")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// unpack returns the folder of a checkpoint that is a blob; empty if there is none.
func (c *Checkpoints) unpack(ctx context.Context, d *types.Descriptor) (dir string, done func() error, err error) {
	if d == nil {
		return "", func() error { return nil }, nil
	}
	dir, done, err = c.folder()
	if err != nil {
		return "", nil, err
	}
	if err := checkpoint.Unpack(ctx, c.Content, protobuf.FromDescriptor(d), dir); err != nil {
		return "", nil, errors.Join(err, done())
	}
	return dir, done, nil
}

// Checkpoint writes a task's processes into a folder that the options name, or makes
// blobs of them, and of the container's spec.
func (s *Tasks) Checkpoint(ctx context.Context, r *wire.CheckpointTaskRequest) (resp *wire.CheckpointTaskResponse, err error) {
	if r.ParentCheckpoint != "" {
		return nil, fmt.Errorf("a checkpoint on top of another: %w", errdefs.ErrNotImplemented)
	}
	c, err := s.Containers.Get(ctx, r.ContainerID)
	if err != nil {
		return nil, err
	}
	dir, err := namedFolder(r.Options)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		return &wire.CheckpointTaskResponse{}, s.dump(ctx, r, dir)
	}
	dir, done, err := s.Checkpoints.folder()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := s.dump(ctx, r, dir); err != nil {
		return nil, err
	}
	spec, err := proto.Marshal(&anypb.Any{TypeUrl: c.Spec.GetTypeUrl(), Value: c.Spec.GetValue()})
	if err != nil {
		return nil, err
	}
	files, err := checkpoint.Pack(ctx, s.Checkpoints.Content, dir)
	if err != nil {
		return nil, err
	}
	config, err := checkpoint.PackConfig(ctx, s.Checkpoints.Content, spec)
	if err != nil {
		return nil, err
	}
	return &wire.CheckpointTaskResponse{Descriptors: []*types.Descriptor{protobuf.ToDescriptor(files), protobuf.ToDescriptor(config)}}, nil
}

// dump has the shim write the files. A client that leaves ends nothing: the runtime does
// not stop halfway, and its folder must not go before it is done.
func (s *Tasks) dump(ctx context.Context, r *wire.CheckpointTaskRequest, dir string) error {
	return s.call(context.WithoutCancel(ctx), r.ContainerID, "Checkpoint", &shim.CheckpointTaskRequest{ID: r.ContainerID, Path: dir, Options: r.Options}, &emptypb.Empty{})
}

// namedFolder is the folder that runc's options name for a checkpoint.
func namedFolder(a *anypb.Any) (string, error) {
	if a.GetTypeUrl() == "" {
		return "", nil
	}
	v, err := typeurl.UnmarshalAny(a)
	if err != nil {
		return "", fmt.Errorf("checkpoint options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if o, ok := v.(*options.CheckpointOptions); ok {
		return o.ImagePath, nil
	}
	return "", nil // another shim's
}
