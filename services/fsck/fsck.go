// Package fsck compares a daemon's stores with each other and with their
// checksums while it runs, and mends what can be mended.
//
// # What is compared
//
// Every blob that a namespace names must be in the content backend, with its
// size and, where asked for, its digest. Every snapshot must have its bytes with
// its driver. Every reference must lead somewhere. What a backend holds beyond
// that is the rest of a crash or is just being made.
//
// # What is mended
//
// Only what is certain: a damaged or missing blob is fetched again from the
// registry that its label containerd.io/distribution.source.<host> names. If none
// has it, its name is removed, so that the next pull brings it back. Snapshots without
// bytes go with all that stand on them, unless a container's do. Bytes without a
// name are removed if they are older than this run of the daemon.
//
// # Concurrency and crash
//
// A check takes no lock for longer than one record. What changes while it runs
// is looked at again before it is mended. A crash in the middle of a repair
// leaves a finding of the same kind for the next one.
package fsck

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/snapshotters"
)

// Severity says how bad a finding is.
type Severity int

// The severities.
const (
	// Note: worth knowing, such as the rest of a crash that will be collected.
	Note Severity = iota + 1
	// Warning: something is left over or doesn't agree; nothing is lost.
	Warning
	// Damage: something is lost or damaged.
	Damage
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity
	// Code is a stable word for what it is, such as "blob-corrupt".
	Code string
	// Namespace is empty for what has no name in any.
	Namespace string
	// Kind is content, snapshot, image, container, lease or ingest.
	Kind string
	// ID is a digest, key, name, or a snapshot's "<snapshotter>/<key>".
	ID string
	// Message is one sentence for people.
	Message string
	// Repaired tells that it was mended; RepairErr why it could not be.
	Repaired  bool
	RepairErr error
}

// Progress counts what was looked at.
type Progress struct{ Checked, Bytes uint64 }

// Options say how thorough a check is.
type Options struct {
	// Repair mends what can be mended.
	Repair bool
	// Verify reads every blob and compares its digest; else only sizes are.
	Verify bool
}

// Fetch opens a blob of a repository at a registry; what it yields is verified
// by the caller.
type Fetch func(ctx context.Context, host, repository string, desc ocispec.Descriptor) (io.ReadCloser, error)

// Checker checks the stores of one daemon.
type Checker struct {
	DB *metadata.DB
	// Blobs and Drivers are the backends behind DB.
	Blobs   content.Store
	Drivers map[string]snapshotters.Driver
	// Fetch brings damaged blobs back; nil where there is no way to.
	Fetch Fetch
}

// reportEvery is how many bytes may be read without a word.
const reportEvery = 64 << 20

// Check looks at everything and calls report for each finding, and for the
// progress with a nil finding. An error of report ends the check.
func (c *Checker) Check(ctx context.Context, opts Options, report func(*Finding, Progress) error) (Progress, error) {
	r := &run{Checker: c, ctx: ctx, opts: opts, report: report}
	// The backends are listed before the database: what is made meanwhile is in
	// neither list or in the second only, and never taken for an orphan.
	if err := r.listBackends(); err != nil {
		return r.progress, err
	}
	var err error
	if r.inv, err = c.DB.Inventory(); err != nil {
		return r.progress, err
	}
	for _, step := range []func() error{r.namedBlobs, r.orphanBlobs, r.ingests, r.namedSnapshots, r.orphanSnapshots, r.dangling} {
		if err := step(); err != nil {
			return r.progress, err
		}
	}
	return r.progress, nil
}

// run is one check.
type run struct {
	*Checker
	ctx      context.Context
	opts     Options
	report   func(*Finding, Progress) error
	progress Progress
	told     uint64 // bytes at the last report

	inv       metadata.Inventory
	blobs     map[string]content.Info
	ingestsOf []content.Status
	ids       map[string][]string // snapshot IDs, by driver
}

func (r *run) listBackends() error {
	r.blobs, r.ids = map[string]content.Info{}, map[string][]string{}
	err := r.Blobs.Walk(r.ctx, func(i content.Info) error {
		r.blobs[i.Digest.String()] = i
		return nil
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	if r.ingestsOf, err = r.Blobs.ListStatuses(r.ctx); err != nil {
		return fmt.Errorf("list ingests: %w", err)
	}
	for name, d := range r.Drivers {
		if r.ids[name], err = d.List(r.ctx); err != nil {
			return fmt.Errorf("list snapshots of %s: %w", name, err)
		}
	}
	return nil
}

// found reports a finding after mending it, where that is asked for and mend
// isn't nil.
func (r *run) found(f Finding, mend func() error) error {
	if r.opts.Repair && mend != nil {
		f.RepairErr = mend()
		f.Repaired = f.RepairErr == nil
	}
	return r.report(&f, r.progress)
}

// looked counts one object, and tells of the progress from time to time.
func (r *run) looked(bytes int64) error {
	r.progress.Checked++
	r.progress.Bytes += uint64(bytes)
	if r.progress.Bytes-r.told >= reportEvery {
		r.told = r.progress.Bytes
		if err := r.report(nil, r.progress); err != nil {
			return err
		}
	}
	return r.ctx.Err()
}

// sorted are a map's keys in order, so that two checks report alike.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
