package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/remote"
)

// Login asks a registry whether it knows who the credentials say.
func (s *Service) Login(ctx context.Context, host string, credentials remote.CredentialFunc) error {
	return s.client(Registry{Credentials: credentials}).Login(ctx, host)
}

// Resolve finds what a name in a registry points at: its descriptor and the manifest.
func (s *Service) Resolve(ctx context.Context, r Registry) (ocispec.Descriptor, []byte, error) {
	ref, err := remote.ParseReference(r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return s.client(r).Resolve(ctx, ref)
}

// Read reads a small blob of an image in a registry, and verifies it.
func (s *Service) Read(ctx context.Context, r Registry, desc ocispec.Descriptor) ([]byte, error) {
	ref, err := remote.ParseReference(r.Reference)
	if err != nil {
		return nil, err
	}
	if desc.Size > manifest.MaxSize {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, manifest.MaxSize, errdefs.ErrInvalidArgument)
	}
	body, err := s.client(r).Blob(ctx, ref, desc, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, desc.Size))
	if err == nil && desc.Digest.Algorithm().FromBytes(data) != desc.Digest {
		err = fmt.Errorf("blob %s is something else: %w", desc.Digest, errdefs.ErrDataLoss)
	}
	return data, err
}

// Search asks a registry for repositories with a term in their names, at most limit.
func (s *Service) Search(ctx context.Context, host, term string, limit int, credentials remote.CredentialFunc) ([]remote.Found, error) {
	return s.client(Registry{Credentials: credentials}).Search(ctx, host, term, limit)
}
