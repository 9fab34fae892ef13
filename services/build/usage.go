package build

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/snapshot/imagerefchecker"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/filter"
)

// keyBlob is where BuildKit notes the blob of a record.
const keyBlob = "cache.blob"

// idsAtOnce bounds how many records are named to BuildKit in one call.
const idsAtOnce = 200

// DiskUsage lists the cache. What is shared with an image is found out anew: BuildKit
// compares chains of blobs, in which a step that has no blob yet, since its result was
// not exported, doesn't count, so that it takes all steps upon an image for parts of
// it. They would be in no sum, and outlive every bound.
func (w *worker) DiskUsage(ctx context.Context, opt client.DiskUsageInfo) ([]*client.UsageInfo, error) {
	fits, err := filter.Parse(opt.Filter...)
	if err != nil {
		return nil, err
	}
	list, err := w.Worker.DiskUsage(ctx, client.DiskUsageInfo{})
	if err != nil {
		return list, err
	}
	if err := w.markShared(list); err != nil {
		return nil, err
	}
	young := time.Now().Add(-opt.AgeLimit)
	return slices.DeleteFunc(list, func(u *client.UsageInfo) bool {
		return !fits.Match(fieldsOf(u)) || opt.AgeLimit > 0 && u.LastUsedAt != nil && u.LastUsedAt.After(young)
	}), nil
}

func (w *worker) markShared(list []*client.UsageInfo) error {
	known := map[string]*client.UsageInfo{}
	for _, u := range list {
		known[u.ID] = u
	}
	check, err := imagerefchecker.New(imagerefchecker.Opt{ImageStore: w.ImageStore, ContentStore: w.ContentStore()})()
	if err != nil {
		return err
	}
	c := chains{known: known, blob: w.blob, found: map[string][]digest.Digest{}}
	for _, u := range list {
		if u.Shared {
			chain, whole := c.of(u.ID)
			u.Shared = whole && check.Exists(u.ID, chain)
		}
	}
	return nil
}

// blob is the blob of a record, "" if it has none.
func (w *worker) blob(id string) (blob digest.Digest) {
	item, ok := w.MetadataStore.Get(id)
	if !ok {
		return ""
	}
	if v := item.Get(keyBlob); v == nil || v.Unmarshal(&blob) != nil {
		return ""
	}
	return blob
}

// chains finds the blobs that records stand on.
type chains struct {
	known map[string]*client.UsageInfo
	blob  func(id string) digest.Digest
	found map[string][]digest.Digest // nil for those without one
}

// of is the blobs of a record and all below it, from the lowest up; not ok if one of
// them has none, or is merged of several.
func (c *chains) of(id string) (chain []digest.Digest, ok bool) {
	if chain, done := c.found[id]; done {
		return chain, chain != nil
	}
	u, blob := c.known[id], c.blob(id)
	if u != nil && blob != "" && len(u.Parents) <= 1 {
		ok = true
		for _, p := range u.Parents {
			chain, ok = c.of(p)
		}
	}
	if ok {
		chain = append(slices.Clone(chain), blob)
	} else {
		chain = nil
	}
	c.found[id] = chain
	return chain, ok
}

// fieldsOf are what filters of records may ask for.
func fieldsOf(u *client.UsageInfo) filter.Adaptor {
	return func(path []string) (string, bool) {
		if len(path) != 1 {
			return "", false
		}
		switch path[0] {
		case "id":
			return u.ID, true
		case "parents":
			return strings.Join(u.Parents, ";"), len(u.Parents) > 0
		case "description":
			return u.Description, u.Description != ""
		case "type":
			return string(u.RecordType), u.RecordType != ""
		case "inuse":
			return "", u.InUse
		case "mutable":
			return "", u.Mutable
		case "immutable":
			return "", !u.Mutable
		case "shared":
			return "", u.Shared
		case "private":
			return "", !u.Shared
		}
		return "", false
	}
}

// Prune drops what the rules, one after the other, say. It chooses itself, by what
// [worker.DiskUsage] says, and names the records to BuildKit.
func (w *worker) Prune(ctx context.Context, dropped chan client.UsageInfo, rules ...client.PruneInfo) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(w.Root, &fs); err != nil {
		return err
	}
	for _, rule := range rules {
		list, err := w.DiskUsage(ctx, client.DiskUsageInfo{})
		if err != nil {
			return err
		}
		ids, err := choose(list, rule, time.Now(), int64(fs.Bavail)*fs.Bsize)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(ids, idsAtOnce) {
			if err := w.Worker.Prune(ctx, dropped, client.PruneInfo{All: true, Filter: named(some)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func named(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = "id==" + id
	}
	return out
}
