package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/images/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/protobuf"
)

// Images serves the images service.
type Images struct {
	wire.UnimplementedImagesServer
	Store image.Store
}

// Register implements Service.
func (s *Images) Register(r grpc.ServiceRegistrar) { wire.RegisterImagesServer(r, s) }

// Get returns one image.
func (s *Images) Get(ctx context.Context, r *wire.GetImageRequest) (*wire.GetImageResponse, error) {
	img, err := s.Store.Get(ctx, r.Name)
	return &wire.GetImageResponse{Image: protobuf.ToImage(img)}, err
}

// List returns the images that match.
func (s *Images) List(ctx context.Context, r *wire.ListImagesRequest) (*wire.ListImagesResponse, error) {
	imgs, err := s.Store.List(ctx, r.Filters...)
	return &wire.ListImagesResponse{Images: protobuf.Each(imgs, protobuf.ToImage)}, err
}

// Create adds an image.
func (s *Images) Create(ctx context.Context, r *wire.CreateImageRequest) (*wire.CreateImageResponse, error) {
	img, err := s.Store.Create(ctx, protobuf.FromImage(r.Image))
	return &wire.CreateImageResponse{Image: protobuf.ToImage(img)}, err
}

// Update changes an image.
func (s *Images) Update(ctx context.Context, r *wire.UpdateImageRequest) (*wire.UpdateImageResponse, error) {
	img, err := s.Store.Update(ctx, protobuf.FromImage(r.Image), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateImageResponse{Image: protobuf.ToImage(img)}, err
}

// Delete removes an image's name.
func (s *Images) Delete(ctx context.Context, r *wire.DeleteImageRequest) (*emptypb.Empty, error) {
	opts := image.DeleteOptions{Sync: r.Sync}
	if r.Target != nil {
		target := protobuf.FromDescriptor(r.Target)
		opts.Target = &target
	}
	return &emptypb.Empty{}, s.Store.Delete(ctx, r.Name, opts)
}
