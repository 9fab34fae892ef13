package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// apply unpacks one layer onto mounts and returns the digest of its tar stream.
func (c *Client) apply(ctx context.Context, layer imagespec.Descriptor, mounts []*types.Mount) (string, error) {
	r, err := diff.NewDiffClient(c.conn).Apply(ctx, &diff.ApplyRequest{
		Diff:   &types.Descriptor{MediaType: layer.MediaType, Digest: layer.Digest.String(), Size: layer.Size, Annotations: layer.Annotations},
		Mounts: mounts,
	})
	if err != nil {
		return "", err
	}
	return r.Applied.GetDigest(), nil
}

// labelUnpacked makes the config refer to the snapshot, so that the collector
// keeps it as long as the image.
func (c *Client) labelUnpacked(ctx context.Context, img *Image, snapshotter string) error {
	key := snapshotLabel + snapshotter
	_, err := content.NewContentClient(c.conn).Update(ctx, &content.UpdateRequest{
		Info: &content.Info{
			Digest: img.Manifest.Config.Digest.String(),
			Labels: map[string]string{key: img.ChainID()},
		},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels." + key}},
	})
	return err
}

// randomID is a name that nobody else has.
func randomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
