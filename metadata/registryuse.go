package metadata

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/registry"
)

// Uses lists the repositories that have a digest.
func (c catalog) Uses(_ context.Context, dgst digest.Digest) ([]string, error) {
	var out []string
	err := c.db.view(func(t *tx) error {
		out = nil
		root := t.Bucket(bucketRegistry)
		if root == nil || root.Bucket(bucketUses) == nil {
			return nil
		}
		return page(root.Bucket(bucketUses).Bucket([]byte(dgst)), "", registry.Page{}, func(repo string, _ []byte) error {
			out = append(out, repo)
			return nil
		})
	})
	return out, err
}

// Usage counts, in one pass over what the chosen repositories have.
func (c catalog) Usage(_ context.Context, match func(string) bool) (registry.Usage, error) {
	var out registry.Usage
	err := c.db.view(func(t *tx) error {
		n := counter{seen: map[digest.Digest]bool{}}
		root := t.Bucket(bucketRegistry)
		if root == nil || root.Bucket(bucketRepos) == nil {
			return nil
		}
		repos := root.Bucket(bucketRepos)
		err := repos.ForEachBucket(func(name []byte) error {
			if !match(string(name)) {
				return nil
			}
			n.Repositories++
			repo := repos.Bucket(name)
			err := n.count(repo.Bucket(bucketManifests), &n.Manifests)
			return errors.Join(err, n.count(repo.Bucket(bucketBlobs), &n.Blobs))
		})
		out = n.Usage
		return err
	})
	return out, err
}

// counter adds up, each digest once.
type counter struct {
	registry.Usage
	seen map[digest.Digest]bool
}

func (n *counter) count(b *bolt.Bucket, total *int) error {
	return page(b, "", registry.Page{}, func(_ string, data []byte) error {
		var item struct { // what blobs and manifests have in common
			Digest digest.Digest
			Size   int64
		}
		if err := json.Unmarshal(data, &item); err != nil || n.seen[item.Digest] {
			return err
		}
		n.seen[item.Digest] = true
		*total++
		n.Bytes += item.Size
		return nil
	})
}

// Blobs lists a repository's blobs.
func (c catalog) Blobs(_ context.Context, repo string, p registry.Page) ([]registry.Blob, error) {
	var out []registry.Blob
	err := c.db.view(func(t *tx) error {
		out = nil
		b := repoBucket(t, repo)
		if b == nil {
			return nil
		}
		return page(b.Bucket(bucketBlobs), "", p, func(_ string, data []byte) error {
			var blob registry.Blob
			err := json.Unmarshal(data, &blob)
			out = append(out, blob)
			return err
		})
	})
	return out, err
}
