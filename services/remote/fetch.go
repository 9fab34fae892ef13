package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/manifest"
)

var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, manifest.DockerManifestList, manifest.DockerManifest, "*/*;q=0.1",
}, ", ")

// Resolve finds what a name points at. The manifest comes along, verified.
func (c *Client) Resolve(ctx context.Context, ref Reference) (ocispec.Descriptor, []byte, error) {
	var desc ocispec.Descriptor
	var body []byte
	err := c.each(ctx, ref.Host, "resolve", func(e endpoint) (err error) {
		desc, body, err = c.manifest(ctx, e, ref, ref.object())
		return err
	})
	return desc, body, err
}

func (c *Client) manifest(ctx context.Context, e endpoint, ref Reference, object string) (ocispec.Descriptor, []byte, error) {
	what := fmt.Sprintf("manifest %s of %s at %s", object, ref.Repository, e.base.Host)
	resp, err := c.do(ctx, e, call{
		method: http.MethodGet, path: ref.Repository + "/manifests/" + object, ref: ref,
		scope: pullScope(ref.Repository), header: http.Header{"Accept": {manifestTypes}},
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, nil, failure(what, resp)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxSize+1))
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(body) > manifest.MaxSize {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%s is larger than %d bytes: %w", what, manifest.MaxSize, errdefs.ErrInvalidArgument)
	}
	desc, err := describe(resp, body, object)
	if err != nil {
		return desc, nil, fmt.Errorf("%s: %w", what, err)
	}
	return desc, body, nil
}

// describe verifies a manifest: against the digest asked for, else against the
// one that the registry claims.
func describe(resp *http.Response, body []byte, object string) (ocispec.Descriptor, error) {
	want := digest.Digest(object)
	if want.Validate() != nil {
		want = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want.Validate() != nil {
		want = digest.FromBytes(body)
	}
	if got := want.Algorithm().FromBytes(body); got != want {
		return ocispec.Descriptor{}, fmt.Errorf("the bytes have digest %s, not %s: %w", got, want, errdefs.ErrDataLoss)
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return ocispec.Descriptor{MediaType: strings.TrimSpace(mediaType), Digest: want, Size: int64(len(body))}, nil
}

// Manifest fetches a manifest by its descriptor.
func (c *Client) Manifest(ctx context.Context, ref Reference, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > manifest.MaxSize {
		return nil, fmt.Errorf("manifest %s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, manifest.MaxSize, errdefs.ErrInvalidArgument)
	}
	var body []byte
	err := c.each(ctx, ref.Host, "pull", func(e endpoint) (err error) {
		_, body, err = c.manifest(ctx, e, ref, desc.Digest.String())
		if err == nil && int64(len(body)) != desc.Size {
			err = fmt.Errorf("manifest %s has %d bytes, not %d: %w", desc.Digest, len(body), desc.Size, errdefs.ErrDataLoss)
		}
		return err
	})
	return body, err
}

// Blob opens a blob from offset on. The caller verifies what it reads, at most
// desc.Size bytes in all. Foreign URLs in the descriptor are never followed: only
// the registry is asked.
func (c *Client) Blob(ctx context.Context, ref Reference, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := c.each(ctx, ref.Host, "pull", func(e endpoint) (err error) {
		body, err = c.blob(ctx, e, ref, desc, offset)
		return err
	})
	return body, err
}

func (c *Client) blob(ctx context.Context, e endpoint, ref Reference, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	what := fmt.Sprintf("blob %s of %s at %s", desc.Digest, ref.Repository, e.base.Host)
	h := http.Header{}
	if offset > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := c.do(ctx, e, call{
		method: http.MethodGet, path: ref.Repository + "/blobs/" + desc.Digest.String(), ref: ref,
		scope: pullScope(ref.Repository), header: h,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return nil, failure(what, resp)
	}
	if err := position(resp, desc.Size, offset); err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return resp.Body, nil
}

// position makes an answer stand at offset, and refuses one that can't be what
// was asked for before a byte of it is stored.
func position(resp *http.Response, size, offset int64) error {
	want := size
	if resp.StatusCode == http.StatusPartialContent {
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != offset {
			return fmt.Errorf("asked for the bytes from %d on, the registry sends %.100q: %w", offset, resp.Header.Get("Content-Range"), errdefs.ErrDataLoss)
		}
		want -= offset
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		return fmt.Errorf("the registry sends %d bytes, not %d: %w", resp.ContentLength, want, errdefs.ErrDataLoss)
	}
	if resp.StatusCode == http.StatusOK && offset > 0 {
		// A registry without ranges sends all: pass over what is there.
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			return err
		}
	}
	return nil
}
