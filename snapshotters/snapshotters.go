// Package snapshotters is the port between file system trees and everything
// that stacks, names and runs them.
//
// # Terms
//
// A snapshot is a file system tree. It is active (writable, made by Prepare),
// a view (read-only, made by View) or committed (immutable, made by Commit and
// usable as a parent). A committed snapshot made from an image's first n layers
// is named by their chain ID (OCI image-spec, "Layer ChainID").
//
// # Two halves
//
// Names, parents, labels and namespaces are the same for all snapshotters, so
// they are kept once, in package metadata, which implements [Snapshotter] on
// top of any [Driver]. A Driver keeps only the bytes of a snapshot, under an ID
// that is never used twice. The database and the drivers therefore can't
// disagree about names, and what a driver holds without the database knowing it
// is the rest of a crash: [Driver.List] shows it and [Driver.Remove] takes it.
//
// # Crash rules
//
// A Driver's work for an ID becomes visible only when metadata commits its
// transaction; so a Driver never has to be atomic, only to be durable: Commit
// and Sync return after the data are on disk. Remove is idempotent and first
// renames to a trash, so that it is quick and can be finished later.
//
// All methods are safe for concurrent use. Calls for one ID don't overlap,
// except Mounts and Usage with each other.
package snapshotters

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
)

// Kind tells what can be done with a snapshot.
type Kind uint8

// The kinds of snapshot; the values are containerd's on the wire.
const (
	KindUnknown Kind = iota
	KindView
	KindActive
	KindCommitted
)

// String names the kind as clients print it.
func (k Kind) String() string {
	switch k {
	case KindView:
		return "View"
	case KindActive:
		return "Active"
	case KindCommitted:
		return "Committed"
	}
	return "Unknown"
}

// Info is what is known of a snapshot without touching its bytes.
type Info struct {
	Kind    Kind
	Name    string // the key of an active snapshot or view, the name of a committed one
	Parent  string // name of the parent; empty for none
	Labels  map[string]string
	Created time.Time
	Updated time.Time
}

// Usage is the disk space a snapshot takes by itself, without its parents.
type Usage struct {
	Inodes int64
	Size   int64 // bytes allocated
}

// Add sums two usages.
func (u Usage) Add(v Usage) Usage { return Usage{u.Inodes + v.Inodes, u.Size + v.Size} }

// Snapshotter is what clients use. Keys and names live in the namespace of the
// context. Errors are of errdefs' classes: NotFound for an unknown key or
// parent, AlreadyExists for a taken one, FailedPrecondition for a snapshot that
// still has children or is of the wrong kind.
type Snapshotter interface {
	// Stat returns what is known of the snapshot called key.
	Stat(ctx context.Context, key string) (Info, error)
	// Update replaces labels: all of them, or those that fieldpaths name
	// ("labels", "labels.<key>").
	Update(ctx context.Context, info Info, fieldpaths ...string) (Info, error)
	// Usage measures an active snapshot, and recalls a committed one's figure.
	Usage(ctx context.Context, key string) (Usage, error)
	// Mounts returns how to mount an active snapshot or a view.
	Mounts(ctx context.Context, key string) ([]mount.Mount, error)
	// Prepare makes an active snapshot on top of parent (empty: nothing).
	Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error)
	// View makes a read-only snapshot of parent.
	View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error)
	// Commit makes the active snapshot key an immutable one called name; key is
	// gone afterwards.
	Commit(ctx context.Context, name, key string, labels map[string]string) error
	// Remove deletes a snapshot that has no children.
	Remove(ctx context.Context, key string) error
	// Walk calls fn for each snapshot that matches any filter (core/filter).
	Walk(ctx context.Context, fn func(context.Context, Info) error, filters ...string) error
}

// Storage names the bytes of one snapshot to a [Driver].
type Storage struct {
	ID      string   // [a-z0-9-]{1,64}, unique for ever
	Kind    Kind     // KindActive or KindView
	Parents []string // IDs of the committed ancestors, nearest first
	Labels  map[string]string
}

// MaxSize is the bound of what an active snapshot takes by itself, in bytes
// (label.SnapshotMaxSize); 0 is none.
func (s *Storage) MaxSize() (int64, error) {
	text := s.Labels[label.SnapshotMaxSize]
	if text == "" || s.Kind != KindActive {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("label %s: %q is no number of bytes: %w", label.SnapshotMaxSize, text, errdefs.ErrInvalidArgument)
	}
	return n, nil
}

// Unbounded is the error of a driver that can't bound a snapshot, for a reason. It is
// ErrInvalidArgument: without the bound it could be made.
func Unbounded(why string) error {
	return fmt.Errorf("the size of a writable layer can't be bounded: %s: %w", why, errdefs.ErrInvalidArgument)
}

// Refuse is for drivers that bound nothing.
func (s *Storage) Refuse(driver string) error {
	if n, err := s.MaxSize(); err != nil || n == 0 {
		return err
	}
	return Unbounded("the snapshotter " + driver + " can't; overlayfs can on xfs or ext4 that is mounted with prjquota, and btrfs with quotas")
}

// Driver keeps the bytes of snapshots, by ID.
type Driver interface {
	// Create makes an active snapshot or a view and tells how to mount it. A
	// Create that fails leaves nothing.
	Create(ctx context.Context, s Storage) ([]mount.Mount, error)
	// Mounts tells how to mount what Create made. It also brings back whatever
	// a reboot took away (mounted lower layers).
	Mounts(ctx context.Context, s Storage) ([]mount.Mount, error)
	// Commit makes an active snapshot immutable and durable and measures it.
	Commit(ctx context.Context, s Storage) (Usage, error)
	// Usage measures an active snapshot or view.
	Usage(ctx context.Context, s Storage) (Usage, error)
	// Remove frees the snapshot. An unknown ID is no error.
	Remove(ctx context.Context, id string) error
	// List returns the IDs of everything stored.
	List(ctx context.Context) ([]string, error)
	// Close lets go of resources; mounts that running containers use stay.
	Close() error
}

// Unpacker is a [Driver] that can make a committed snapshot straight from a
// layer's uncompressed tar stream. Parents needn't exist, so the layers of an
// image can be unpacked side by side.
type Unpacker interface {
	Driver
	// Unpack reads tar to its end. On error nothing is left under id. The
	// result is not durable until Sync.
	Unpack(ctx context.Context, id string, tar io.Reader, labels map[string]string) (Usage, error)
	// Sync makes what was unpacked under ids durable, in one go.
	Sync(ctx context.Context, ids []string) error
}

// Differ is a [Driver] that knows the changed part of a snapshot without
// comparing it with its parents.
type Differ interface {
	Driver
	// Diff writes the layer tar of what s holds on top of its parents.
	Diff(ctx context.Context, s Storage, w io.Writer) error
}

// Layer is an unpacked layer on its way to become a committed snapshot.
type Layer struct {
	ID     string // set by UnpackLayer
	Name   string // chain ID; set by the caller before CommitLayers
	Parent string // chain ID of the layers below; empty for the first
	Labels map[string]string
	Usage  Usage
}

// LayerStore takes an image's layers side by side; names and parents come last.
// What a crash leaves of unnamed layers is removed at the next start.
type LayerStore interface {
	Snapshotter
	// UnpackLayer makes an unnamed layer of an uncompressed tar stream.
	UnpackLayer(ctx context.Context, tar io.Reader, labels map[string]string) (Layer, error)
	// CommitLayers makes layers durable and names them, lowest first, all or none.
	// One whose name is taken by now is dropped. On error all are dropped.
	CommitLayers(ctx context.Context, chain []Layer) error
	// DropLayers removes layers that won't be committed.
	DropLayers(ctx context.Context, layers []Layer) error
}
