package stores

import (
	"context"

	ctd "github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
)

// Content shows a content store.
type Content struct{ Store content.Store }

var _ ctd.Store = Content{}

func toInfo(i content.Info) ctd.Info {
	return ctd.Info{Digest: i.Digest, Size: i.Size, CreatedAt: i.Created, UpdatedAt: i.Updated, Labels: i.Labels}
}

func fromInfo(i ctd.Info) content.Info {
	return content.Info{Digest: i.Digest, Size: i.Size, Created: i.CreatedAt, Updated: i.UpdatedAt, Labels: i.Labels}
}

func toStatus(s content.Status) ctd.Status {
	return ctd.Status{Ref: s.Ref, Offset: s.Offset, Total: s.Total, Expected: s.Expected, StartedAt: s.Started, UpdatedAt: s.Updated}
}

// ReaderAt implements the provider.
func (c Content) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (ctd.ReaderAt, error) {
	return c.Store.ReaderAt(in(ctx), desc)
}

// Info implements the manager.
func (c Content) Info(ctx context.Context, dgst digest.Digest) (ctd.Info, error) {
	i, err := c.Store.Info(in(ctx), dgst)
	return toInfo(i), err
}

// Update implements the manager.
func (c Content) Update(ctx context.Context, info ctd.Info, fieldpaths ...string) (ctd.Info, error) {
	i, err := c.Store.Update(in(ctx), fromInfo(info), fieldpaths...)
	return toInfo(i), err
}

// Walk implements the manager.
func (c Content) Walk(ctx context.Context, fn ctd.WalkFunc, filters ...string) error {
	return c.Store.Walk(in(ctx), func(i content.Info) error { return fn(toInfo(i)) }, filters...)
}

// Delete implements the manager.
func (c Content) Delete(ctx context.Context, dgst digest.Digest) error {
	return c.Store.Delete(in(ctx), dgst)
}

// Status implements the manager of ingests.
func (c Content) Status(ctx context.Context, ref string) (ctd.Status, error) {
	s, err := c.Store.Status(in(ctx), ref)
	return toStatus(s), err
}

// ListStatuses implements the manager of ingests.
func (c Content) ListStatuses(ctx context.Context, filters ...string) ([]ctd.Status, error) {
	list, err := c.Store.ListStatuses(in(ctx), filters...)
	out := make([]ctd.Status, len(list))
	for i, s := range list {
		out[i] = toStatus(s)
	}
	return out, err
}

// Abort implements the manager of ingests.
func (c Content) Abort(ctx context.Context, ref string) error { return c.Store.Abort(in(ctx), ref) }

// Writer implements the ingester.
func (c Content) Writer(ctx context.Context, opts ...ctd.WriterOpt) (ctd.Writer, error) {
	var o ctd.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	w, err := c.Store.Writer(in(ctx), content.WriterOptions{Ref: o.Ref, Descriptor: o.Desc})
	if err != nil {
		return nil, err
	}
	return writer{w}, nil
}

type writer struct{ content.Writer }

func (w writer) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...ctd.Opt) error {
	var info ctd.Info
	for _, opt := range opts {
		if err := opt(&info); err != nil {
			return err
		}
	}
	return w.Writer.Commit(in(ctx), size, expected, info.Labels)
}

func (w writer) Status() (ctd.Status, error) {
	s, err := w.Writer.Status()
	return toStatus(s), err
}
