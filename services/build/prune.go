package build

import (
	"context"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/bklog"
	"golang.org/x/sync/errgroup"
)

// Record is a piece of the cache.
type Record struct {
	ID, Kind, Description string
	Parents               []string
	InUse, Shared         bool
	Size                  int64 // bytes
	Created               time.Time
	LastUsed              *time.Time
	Used                  int // times
}

// Cache lists what is kept for later builds.
func (b *Builder) Cache(ctx context.Context) ([]Record, error) {
	if !b.Opened() && !b.Used() {
		return nil, nil
	}
	o, err := b.open()
	if err != nil {
		return nil, err
	}
	list, err := o.worker.DiskUsage(ctx, client.DiskUsageInfo{})
	out := make([]Record, len(list))
	for i, u := range list {
		out[i] = Record{ID: u.ID, Kind: string(u.RecordType), Description: u.Description, Parents: u.Parents, InUse: u.InUse, Shared: u.Shared,
			Size: u.Size, Created: u.CreatedAt, LastUsed: u.LastUsedAt, Used: u.UsageCount}
	}
	return out, err
}

// PruneOptions say what of the cache is dropped.
type PruneOptions struct {
	// All drops what belongs to the builder itself, too.
	All bool
	// Filter are BuildKit's: one of them must fit.
	Filter []string
	// Unused is for how long something must not have been used.
	Unused time.Duration
	// Reserved is what stays, Most what may stay at most, Free what must be free on
	// the disk, in bytes.
	Reserved, Most, Free int64
}

// Prune drops what matches and no build uses, all or what has not been asked for by
// name, and returns IDs and bytes.
func (b *Builder) Prune(ctx context.Context, p PruneOptions) (ids []string, freed int64, err error) {
	if !b.Opened() && !b.Used() {
		return nil, 0, nil
	}
	o, err := b.open()
	if err != nil {
		return nil, 0, err
	}
	found := make(chan client.UsageInfo)
	var g errgroup.Group
	g.Go(func() error {
		for u := range found {
			ids, freed = append(ids, u.ID), freed+u.Size
		}
		return nil
	})
	err = o.worker.Prune(ctx, found, client.PruneInfo{All: p.All, Filter: p.Filter, KeepDuration: p.Unused, ReservedSpace: p.Reserved, MaxUsedSpace: p.Most, MinFreeSpace: p.Free})
	close(found)
	g.Wait()
	if err == nil {
		if cerr := o.worker.GarbageCollect(ctx); cerr != nil {
			bklog.G(ctx).WithError(cerr).Warn("what was pruned stays until the next collection")
		}
	}
	return ids, freed, err
}
