package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/registry"
)

// RetireTag removes a tag that nobody has moved meanwhile.
func (c catalog) RetireTag(_ context.Context, repo string, tag registry.Tag) (bool, error) {
	gone := false
	err := c.db.update(func(t *tx) error {
		var now registry.Tag
		if err := getJSON(t, repo, bucketTags, tag.Name, &now); err != nil {
			return err
		}
		if gone = now.Digest == tag.Digest && now.Updated.Equal(tag.Updated); !gone {
			return nil
		}
		if err := repoBucket(t, repo).Bucket(bucketTags).Delete([]byte(tag.Name)); err != nil {
			return err
		}
		return c.db.tell(t, repo, tag.Name)
	})
	return gone, err
}

// RetireManifests removes what no tag leads to.
func (c catalog) RetireManifests(_ context.Context, repo string, before time.Time, n int, dry bool) ([]registry.Manifest, error) {
	var out []registry.Manifest
	do := c.db.update
	if dry {
		do = c.db.view
	}
	err := do(func(t *tx) error {
		if repoBucket(t, repo) == nil {
			return noRepo(repo)
		}
		var err error
		if out, err = loose(t, repo, before, n); err != nil || dry {
			return err
		}
		for _, m := range out {
			if err := errors.Join(dropManifest(t, repo, m), c.db.tell(t, repo, m.Digest.String())); err != nil {
				return err
			}
		}
		return tidyRepo(t, repo)
	})
	return out, err
}

func dropManifest(t *tx, repo string, m registry.Manifest) error {
	b := repoBucket(t, repo)
	if err := b.Bucket(bucketManifests).Delete([]byte(m.Digest)); err != nil {
		return err
	}
	if m.Subject != "" {
		if err := b.Bucket(bucketReferrers).Delete([]byte(referrer(m.Subject, m.Digest))); err != nil {
			return err
		}
	}
	return unuse(t, repo, m.Digest)
}

// loose are old manifests that can't be reached: from tags and from what is young,
// down to the parts of indexes and up to what refers to them.
func loose(t *tx, repo string, before time.Time, n int) ([]registry.Manifest, error) {
	b := repoBucket(t, repo)
	all := map[digest.Digest]registry.Manifest{}
	var todo []digest.Digest
	referrers := map[digest.Digest][]digest.Digest{}
	err := page(b.Bucket(bucketManifests), "", registry.Page{}, func(_ string, data []byte) error {
		var m registry.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		all[m.Digest] = m
		if m.Subject != "" {
			referrers[m.Subject] = append(referrers[m.Subject], m.Digest)
		}
		if !m.Pushed.Before(before) {
			todo = append(todo, m.Digest)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = page(b.Bucket(bucketTags), "", registry.Page{}, func(_ string, data []byte) error {
		var tag registry.Tag
		err := json.Unmarshal(data, &tag)
		todo = append(todo, tag.Digest)
		return err
	})
	kept := map[digest.Digest]bool{}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if kept[d] {
			continue
		}
		kept[d] = true
		todo = append(append(todo, all[d].Manifests...), referrers[d]...)
	}
	var out []registry.Manifest
	for d, m := range all {
		if !kept[d] && len(out) < n {
			out = append(out, m)
		}
	}
	return out, err
}
