package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/registry"
)

// referrer is the key of a manifest under its subject.
func referrer(subject, dgst digest.Digest) string { return subject.String() + "|" + dgst.String() }

func (c catalog) PutManifest(_ context.Context, repo string, m registry.Manifest, o registry.PutOptions) error {
	return c.db.update(func(t *tx) error {
		b, err := makeRepo(t, repo)
		if err != nil {
			return err
		}
		if !o.Sparse {
			if err := complete(b, repo, m); err != nil {
				return err
			}
		}
		if _, err := use(t, repo, m.Digest); err != nil {
			return err
		}
		if err := putJSON(b, bucketManifests, m.Digest.String(), m); err != nil {
			return err
		}
		if m.Subject != "" {
			if err := putJSON(b, bucketReferrers, referrer(m.Subject, m.Digest), m.Digest); err != nil {
				return err
			}
		}
		for _, name := range o.Tags {
			if err := putTag(t, repo, registry.Tag{Name: name, Digest: m.Digest, Updated: m.Pushed}, o.Keep); err != nil {
				return err
			}
		}
		if len(o.Tags) > 0 {
			return c.db.tell(t, repo, o.Tags...)
		}
		return c.db.tell(t, repo, m.Digest.String())
	})
}

func putTag(t *tx, repo string, tag registry.Tag, keep func(string) bool) error {
	if err := registry.CheckTag(tag.Name); err != nil {
		return err
	}
	var old registry.Tag
	err := getJSON(t, repo, bucketTags, tag.Name, &old)
	switch {
	case err == nil && old.Digest == tag.Digest:
		tag.Updated = old.Updated // nothing was moved
	case err == nil && keep != nil && keep(tag.Name):
		return fmt.Errorf("tag %s of repository %s is immutable and points at %s: %w", tag.Name, repo, old.Digest, errdefs.ErrAlreadyExists)
	case err != nil && !errdefs.IsNotFound(err):
		return err
	}
	return putJSON(repoBucket(t, repo), bucketTags, tag.Name, tag)
}

// complete checks that a repository has what a manifest refers to.
func complete(b *bolt.Bucket, repo string, m registry.Manifest) error {
	missing := &registry.MissingError{Repository: repo}
	lacks := func(bucket []byte, d digest.Digest) bool {
		sub := b.Bucket(bucket)
		return sub == nil || sub.Get([]byte(d)) == nil
	}
	for _, d := range m.Blobs {
		if lacks(bucketBlobs, d) {
			missing.Blobs = append(missing.Blobs, d)
		}
	}
	for _, d := range m.Manifests {
		if lacks(bucketManifests, d) {
			missing.Manifests = append(missing.Manifests, d)
		}
	}
	if len(missing.Blobs)+len(missing.Manifests) > 0 {
		return missing
	}
	return nil
}

func (c catalog) Manifest(_ context.Context, repo string, dgst digest.Digest) (registry.Manifest, error) {
	var out registry.Manifest
	err := c.db.view(func(t *tx) error { return getJSON(t, repo, bucketManifests, dgst.String(), &out) })
	return out, err
}

func (c catalog) Manifests(_ context.Context, repo string, p registry.Page) ([]registry.Manifest, error) {
	var out []registry.Manifest
	err := c.db.view(func(t *tx) error {
		out = nil
		b := repoBucket(t, repo)
		if b == nil {
			return noRepo(repo)
		}
		return page(b.Bucket(bucketManifests), "", p, func(_ string, data []byte) error {
			var m registry.Manifest
			err := json.Unmarshal(data, &m)
			out = append(out, m)
			return err
		})
	})
	return out, err
}

func noRepo(name string) error { return fmt.Errorf("repository %q: %w", name, errdefs.ErrNotFound) }

func (c catalog) DeleteManifest(_ context.Context, repo string, dgst digest.Digest, keep func(tag string) bool) error {
	return c.db.update(func(t *tx) error {
		var m registry.Manifest
		if err := getJSON(t, repo, bucketManifests, dgst.String(), &m); err != nil {
			return err
		}
		b := repoBucket(t, repo)
		if err := b.Bucket(bucketManifests).Delete([]byte(dgst)); err != nil {
			return err
		}
		if m.Subject != "" {
			if err := b.Bucket(bucketReferrers).Delete([]byte(referrer(m.Subject, dgst))); err != nil {
				return err
			}
		}
		gone, err := dropTags(b, repo, dgst, keep)
		if err != nil {
			return err
		}
		return errors.Join(unuse(t, repo, dgst), tidyRepo(t, repo), c.db.tell(t, repo, append(gone, dgst.String())...))
	})
}

// dropTags removes the tags that point at a manifest, and returns them.
func dropTags(b *bolt.Bucket, repo string, dgst digest.Digest, keep func(string) bool) (gone []string, err error) {
	tags := b.Bucket(bucketTags)
	err = page(tags, "", registry.Page{}, func(name string, data []byte) error {
		var tag registry.Tag
		if err := json.Unmarshal(data, &tag); err != nil {
			return err
		}
		if tag.Digest != dgst {
			return nil
		}
		if keep != nil && keep(name) {
			return fmt.Errorf("the immutable tag %s of repository %s points at %s: %w", name, repo, dgst, errdefs.ErrFailedPrecondition)
		}
		gone = append(gone, name)
		return nil
	})
	for _, name := range gone {
		if err == nil {
			err = tags.Delete([]byte(name))
		}
	}
	return gone, err
}

func (c catalog) Referrers(_ context.Context, repo string, subject digest.Digest, p registry.Page) ([]registry.Manifest, error) {
	var out []registry.Manifest
	err := c.db.view(func(t *tx) error {
		out = nil
		b := repoBucket(t, repo)
		if b == nil {
			return nil
		}
		return page(b.Bucket(bucketReferrers), subject.String()+"|", p, func(dgst string, _ []byte) error {
			var m registry.Manifest
			err := getJSON(t, repo, bucketManifests, dgst, &m)
			out = append(out, m)
			return err
		})
	})
	return out, err
}

func (c catalog) Tag(_ context.Context, repo, tag string) (registry.Tag, error) {
	var out registry.Tag
	err := c.db.view(func(t *tx) error { return getJSON(t, repo, bucketTags, tag, &out) })
	return out, err
}

func (c catalog) Tags(_ context.Context, repo string, p registry.Page) ([]registry.Tag, error) {
	var out []registry.Tag
	err := c.db.view(func(t *tx) error {
		out = nil
		b := repoBucket(t, repo)
		if b == nil {
			return noRepo(repo)
		}
		return page(b.Bucket(bucketTags), "", p, func(_ string, data []byte) error {
			var tag registry.Tag
			err := json.Unmarshal(data, &tag)
			out = append(out, tag)
			return err
		})
	})
	return out, err
}

func (c catalog) DeleteTag(_ context.Context, repo, tag string) error {
	return c.db.update(func(t *tx) error {
		var old registry.Tag
		if err := getJSON(t, repo, bucketTags, tag, &old); err != nil {
			return err
		}
		if err := repoBucket(t, repo).Bucket(bucketTags).Delete([]byte(tag)); err != nil {
			return err
		}
		return c.db.tell(t, repo, tag)
	})
}

var _ registry.Catalog = catalog{}
