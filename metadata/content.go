package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
)

var contentTable = table[content.Info]{name: "content", noun: "blob"}

type contentStore struct{ db *DB }

// Content returns the content store of the context's namespace.
func (db *DB) Content() content.Store { return contentStore{db} }

func (s contentStore) lookup(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return content.Info{}, err
	}
	var info content.Info
	err = s.db.view(func(t *tx) error {
		info, err = contentTable.get(t, ns, dgst.String())
		return err
	})
	return info, err
}

func (s contentStore) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if _, err := s.lookup(ctx, desc.Digest); err != nil {
		return nil, err
	}
	return s.db.back.Content.ReaderAt(ctx, desc)
}

func (s contentStore) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	return s.lookup(ctx, dgst)
}

func (s contentStore) Update(ctx context.Context, info content.Info, fieldpaths ...string) (content.Info, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return content.Info{}, err
	}
	var out content.Info
	err = s.db.update(func(t *tx) error {
		if out, err = contentTable.get(t, ns, info.Digest.String()); err != nil {
			return err
		}
		labels, other := label.Merge(out.Labels, info.Labels, fieldpaths)
		if len(other) > 0 {
			return fmt.Errorf("blob %s has no field %q to update: %w", info.Digest, other[0], errdefs.ErrInvalidArgument)
		}
		if err := label.Validate(labels); err != nil {
			return err
		}
		out.Labels, out.Updated = labels, time.Now().UTC()
		t.touch(contentNode(ns, out.Digest))
		return contentTable.put(t, ns, out.Digest.String(), out)
	})
	return out, err
}

func (s contentStore) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	infos, err := contentTable.list(s.db, ns, filters, func(i content.Info) filter.Adaptor { return i.Field })
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := fn(info); err != nil {
			return err
		}
	}
	return nil
}

// Delete forgets the blob in this namespace; the collector removes the bytes
// once no namespace knows them.
func (s contentStore) Delete(ctx context.Context, dgst digest.Digest) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(func(t *tx) error { return contentTable.remove(t, ns, dgst.String()) })
	if err != nil {
		return err
	}
	return errors.Join(
		s.db.dropBlob(ctx, dgst),
		s.db.publish(ctx, "/content/delete", &events.ContentDelete{Digest: dgst.String()}))
}

// record names a blob in a namespace.
func (s contentStore) record(ctx context.Context, ns string, info content.Info) error {
	info.Created = time.Now().UTC()
	info.Updated = info.Created
	return s.db.update(func(t *tx) error {
		t.touch(contentNode(ns, info.Digest))
		if !contentTable.has(t, ns, info.Digest.String()) {
			if err := contentTable.put(t, ns, info.Digest.String(), info); err != nil {
				return err
			}
		}
		return t.hold(ctx, ns, "content", info.Digest.String())
	})
}

func contentNode(ns string, dgst digest.Digest) gc.Node {
	return gc.Node{Type: gc.Content, Namespace: ns, Key: dgst.String()}
}

// dropBlob removes a blob's bytes unless some namespace names it.
func (db *DB) dropBlob(ctx context.Context, dgst digest.Digest) error {
	db.blobMu.Lock()
	defer db.blobMu.Unlock()
	var used bool
	err := db.view(func(t *tx) error {
		for _, ns := range t.namespaces() {
			used = used || contentTable.has(t, ns, dgst.String())
		}
		return nil
	})
	if err != nil || used {
		return err
	}
	if err := db.back.Content.Delete(ctx, dgst); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
