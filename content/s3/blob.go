package s3

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
)

// Info asks for a blob's size and time.
func (s *Store) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	if err := check(dgst); err != nil {
		return content.Info{}, err
	}
	ctx, cancel := s.small(ctx)
	defer cancel()
	o, err := s.core.StatObject(ctx, s.cfg.Bucket, s.blobKey(dgst), minio.StatObjectOptions{})
	if err != nil {
		return content.Info{}, classify(describe(dgst), err)
	}
	return info(dgst, o), nil
}

func info(dgst digest.Digest, o minio.ObjectInfo) content.Info {
	return content.Info{Digest: dgst, Size: o.Size, Created: o.LastModified, Updated: o.LastModified}
}

// ReaderAt opens a blob; its bytes come when they are read.
func (s *Store) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	i, err := s.Info(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	return newReader(s, i), nil
}

// Update is refused: this store keeps no labels.
func (s *Store) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fmt.Errorf("the content store on S3 keeps no labels, metadata does: %w", errdefs.ErrFailedPrecondition)
}

// Walk visits the blobs, in no order.
func (s *Store) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	f, err := filter.Parse(filters...)
	if err != nil {
		return err
	}
	if err := s.claim(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prefix := s.cfg.Prefix + "blobs/"
	for o := range s.core.Client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return classify("blobs of bucket "+s.cfg.Bucket, o.Err)
		}
		alg, hex, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
		dgst := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
		if dgst.Validate() != nil {
			continue
		}
		if in := info(dgst, o); f.Match(in.Field) {
			if err := fn(in); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Delete removes a blob.
func (s *Store) Delete(ctx context.Context, dgst digest.Digest) error {
	if err := s.claim(ctx); err != nil {
		return err
	}
	if _, err := s.Info(ctx, dgst); err != nil {
		return err // S3 itself is content with the removal of nothing
	}
	ctx, cancel := s.small(ctx)
	defer cancel()
	return classify(describe(dgst), s.core.RemoveObject(ctx, s.cfg.Bucket, s.blobKey(dgst), minio.RemoveObjectOptions{}))
}

// locateFor is how long an address is good: a client may have to wait for its turn.
const locateFor = 15 * time.Minute

// Locate implements [content.Locator] by a signed address. Nothing is asked for it.
func (s *Store) Locate(ctx context.Context, dgst digest.Digest) (string, error) {
	if err := check(dgst); err != nil {
		return "", err
	}
	u, err := s.core.PresignedGetObject(ctx, s.cfg.Bucket, s.blobKey(dgst), locateFor, nil)
	if err != nil {
		return "", classify(describe(dgst), err)
	}
	return u.String(), nil
}
