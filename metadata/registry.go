package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/registry"
)

// RegistryNamespace is where the registry's blobs are; they share their bytes with
// those of other namespaces.
const RegistryNamespace = "registry"

// The registry is beside the namespaces: registry/repos/NAME/{blobs,manifests,tags,
// referrers}, and registry/uses/DIGEST/NAME, which tells what may be collected: a blob
// that some repository links is a root of the collector, by its label.
var (
	bucketRegistry  = []byte("registry")
	bucketRepos     = []byte("repos")
	bucketUses      = []byte("uses")
	bucketBlobs     = []byte("blobs")
	bucketManifests = []byte("manifests")
	bucketTags      = []byte("tags")
	bucketReferrers = []byte("referrers") // SUBJECT|DIGEST
)

type catalog struct{ db *DB }

// Registry returns the catalog of the registry.
func (db *DB) Registry() registry.Catalog { return catalog{db} }

// repo finds a repository's bucket; nil if there is none.
func repoBucket(t *tx, name string) *bolt.Bucket {
	root := t.Bucket(bucketRegistry)
	if root == nil {
		return nil
	}
	repos := root.Bucket(bucketRepos)
	if repos == nil {
		return nil
	}
	return repos.Bucket([]byte(name))
}

// makeRepo makes a repository's bucket if it isn't there.
func makeRepo(t *tx, name string) (*bolt.Bucket, error) {
	if err := registry.CheckName(name); err != nil {
		return nil, err
	}
	b, err := t.CreateBucketIfNotExists(bucketRegistry)
	for _, key := range [][]byte{bucketRepos, []byte(name)} {
		if err == nil {
			b, err = b.CreateBucketIfNotExists(key)
		}
	}
	return b, err
}

// tidyRepo removes a repository that has nothing left.
func tidyRepo(t *tx, name string) error {
	b := repoBucket(t, name)
	for _, key := range [][]byte{bucketBlobs, bucketManifests, bucketTags} {
		if sub := b.Bucket(key); sub != nil {
			if k, _ := sub.Cursor().First(); k != nil {
				return nil
			}
		}
	}
	return t.Bucket(bucketRegistry).Bucket(bucketRepos).DeleteBucket([]byte(name))
}

// use notes that a repository has a blob, and makes that a root.
func use(t *tx, repo string, dgst digest.Digest) (size int64, err error) {
	info, err := contentTable.get(t, RegistryNamespace, dgst.String())
	if err != nil {
		return 0, err
	}
	b, err := t.Bucket(bucketRegistry).CreateBucketIfNotExists(bucketUses)
	if err == nil {
		b, err = b.CreateBucketIfNotExists([]byte(dgst))
	}
	if err == nil {
		err = b.Put([]byte(repo), []byte{})
	}
	if err != nil {
		return 0, err
	}
	t.touch(contentNode(RegistryNamespace, dgst))
	if info.Labels[label.GCRoot] != "" {
		return info.Size, nil
	}
	info.Labels = map[string]string{label.GCRoot: time.Now().UTC().Format(time.RFC3339)}
	return info.Size, contentTable.put(t, RegistryNamespace, dgst.String(), info)
}

// unuse takes a blob from a repository; it is a root no more after the last. A
// manifest that is also linked as a blob counts once.
func unuse(t *tx, repo string, dgst digest.Digest) error {
	r := repoBucket(t, repo)
	for _, key := range [][]byte{bucketBlobs, bucketManifests} {
		if sub := r.Bucket(key); sub != nil && sub.Get([]byte(dgst)) != nil {
			return nil
		}
	}
	uses := t.Bucket(bucketRegistry).Bucket(bucketUses)
	b := uses.Bucket([]byte(dgst))
	if b == nil {
		return nil
	}
	if err := b.Delete([]byte(repo)); err != nil {
		return err
	}
	if k, _ := b.Cursor().First(); k != nil {
		return nil
	}
	if err := uses.DeleteBucket([]byte(dgst)); err != nil {
		return err
	}
	t.deletion = true
	info, err := contentTable.get(t, RegistryNamespace, dgst.String())
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	delete(info.Labels, label.GCRoot)
	return contentTable.put(t, RegistryNamespace, dgst.String(), info)
}

// putJSON puts a record into a bucket of a repository.
func putJSON(repo *bolt.Bucket, bucket []byte, key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	b, err := repo.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), data)
}

// getJSON reads a record, or returns NotFound.
func getJSON(t *tx, repo string, bucket []byte, key string, into any) error {
	missing := fmt.Errorf("%s %q of repository %s: %w", bytes.TrimSuffix(bucket, []byte("s")), key, repo, errdefs.ErrNotFound)
	r := repoBucket(t, repo)
	if r == nil {
		return missing
	}
	b := r.Bucket(bucket)
	if b == nil {
		return missing
	}
	data := b.Get([]byte(key))
	if data == nil {
		return missing
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s %q of repository %s is damaged: %w", bucket, key, repo, errdefs.ErrDataLoss)
	}
	return nil
}

// page calls fn for the entries of a bucket that a page asks for and whose key has the prefix.
func page(b *bolt.Bucket, prefix string, p registry.Page, fn func(key string, value []byte) error) error {
	if b == nil {
		return nil
	}
	c := b.Cursor()
	k, v := c.Seek([]byte(prefix + p.After))
	if p.After != "" && k != nil && string(k) == prefix+p.After {
		k, v = c.Next()
	}
	for n := 0; k != nil && bytes.HasPrefix(k, []byte(prefix)) && (p.N == 0 || n < p.N); n++ {
		if err := fn(string(k[len(prefix):]), v); err != nil {
			return err
		}
		k, v = c.Next()
	}
	return nil
}

func (c catalog) Repositories(_ context.Context, p registry.Page) ([]string, error) {
	var out []string
	err := c.db.view(func(t *tx) error {
		out = nil
		root := t.Bucket(bucketRegistry)
		if root == nil {
			return nil
		}
		return page(root.Bucket(bucketRepos), "", p, func(name string, _ []byte) error {
			out = append(out, name)
			return nil
		})
	})
	return out, err
}

func (c catalog) LinkBlob(_ context.Context, repo string, dgst digest.Digest) (registry.Blob, error) {
	var out registry.Blob
	err := c.db.update(func(t *tx) error {
		b, err := makeRepo(t, repo)
		if err != nil {
			return err
		}
		size, err := use(t, repo, dgst)
		if err != nil {
			return err
		}
		out = registry.Blob{Digest: dgst, Size: size, Linked: time.Now().UTC()}
		return putJSON(b, bucketBlobs, dgst.String(), out)
	})
	return out, err
}

func (c catalog) Blob(_ context.Context, repo string, dgst digest.Digest) (registry.Blob, error) {
	var out registry.Blob
	err := c.db.view(func(t *tx) error { return getJSON(t, repo, bucketBlobs, dgst.String(), &out) })
	return out, err
}

func (c catalog) UnlinkBlob(_ context.Context, repo string, dgst digest.Digest) error {
	return c.db.update(func(t *tx) error {
		var old registry.Blob
		if err := getJSON(t, repo, bucketBlobs, dgst.String(), &old); err != nil {
			return err
		}
		if err := repoBucket(t, repo).Bucket(bucketBlobs).Delete([]byte(dgst)); err != nil {
			return err
		}
		return errors.Join(unuse(t, repo, dgst), tidyRepo(t, repo))
	})
}

// Expire unlinks what nothing hangs on.
func (c catalog) Expire(_ context.Context, before time.Time, n int) (int, error) {
	gone := 0
	err := c.db.update(func(t *tx) error {
		gone = 0
		root := t.Bucket(bucketRegistry)
		if root == nil || root.Bucket(bucketRepos) == nil {
			return nil
		}
		var repos []string
		if err := root.Bucket(bucketRepos).ForEachBucket(func(k []byte) error { repos = append(repos, string(k)); return nil }); err != nil {
			return err
		}
		for _, repo := range repos {
			old, err := unneeded(t, repo, before, n-gone)
			if err != nil {
				return err
			}
			for _, dgst := range old {
				if err := repoBucket(t, repo).Bucket(bucketBlobs).Delete([]byte(dgst)); err != nil {
					return err
				}
				if err := unuse(t, repo, dgst); err != nil {
					return err
				}
			}
			if gone += len(old); len(old) > 0 {
				if err := tidyRepo(t, repo); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return gone, err
}

// unneeded are blobs that no manifest of the repository refers to.
func unneeded(t *tx, repo string, before time.Time, n int) ([]digest.Digest, error) {
	var old []digest.Digest
	b := repoBucket(t, repo)
	if n <= 0 {
		return nil, nil
	}
	err := page(b.Bucket(bucketBlobs), "", registry.Page{}, func(_ string, data []byte) error {
		var blob registry.Blob
		if err := json.Unmarshal(data, &blob); err != nil {
			return err
		}
		if blob.Linked.Before(before) {
			old = append(old, blob.Digest)
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return nil, err
	}
	needed := map[digest.Digest]bool{}
	err = page(b.Bucket(bucketManifests), "", registry.Page{}, func(_ string, data []byte) error {
		var m registry.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		for _, d := range m.Blobs {
			needed[d] = true
		}
		return nil
	})
	var out []digest.Digest
	for _, d := range old {
		if !needed[d] && len(out) < n {
			out = append(out, d)
		}
	}
	return out, err
}
