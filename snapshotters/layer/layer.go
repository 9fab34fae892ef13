// Package layer turns layer tars into directory trees and back.
//
// [Apply] writes a tar stream into a directory; [Diff] and [DiffUpper] write the
// tar of what a tree has changed; [Decompress] opens gzip and zstd blobs.
//
// # Safety
//
// A layer is hostile input. Every lookup is relative to a directory descriptor
// and takes one path component without following symbolic links; links on the
// way are resolved here, with the tree's root as their root. So nothing outside
// the tree can be reached, whatever an archive puts where. Names that climb
// above the root are an error. What is created is created exclusively
// (O_EXCL), and owners, modes and attributes are set through descriptors of
// what was created, never through hard links.
//
// # Crashes
//
// Nothing here is atomic or durable: a tree is not to be used before Apply has
// returned without error, and not after a power loss before the caller's sync.
//
// # Concurrency
//
// The functions may run side by side on different trees. Nobody else may change
// a tree while it is being written.
package layer

import (
	"errors"
	"fmt"
	"os"
)

// Names that the OCI image-spec reserves in layers.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	metaPrefix     = ".wh..wh." // AUFS's own files: hard-link folder and the like
)

// Whiteouts tells what becomes of a layer's deletions.
type Whiteouts uint8

const (
	// Resolve deletes what a whiteout names: for a tree with all its parents.
	Resolve Whiteouts = iota
	// Overlay writes overlayfs's own marks (a character device 0:0, an
	// attribute for opaque directories): for one layer by itself.
	Overlay
	// Plain takes the names of whiteouts for names like others: for archives that
	// are no layers.
	Plain
)

// Bounds of a layer, where Options don't set others.
const (
	// DefaultMaxEntries is several times the largest images seen in the wild
	// (about one million files); each costs up to 100 bytes of memory.
	DefaultMaxEntries = 4 << 20
	// maxName is the kernel's PATH_MAX, and with it bounds the depth.
	maxName = 4096
	// maxXattr is the kernel's XATTR_SIZE_MAX.
	maxXattr = 64 << 10
	// maxLinks is how many symbolic links one lookup follows, as in the kernel.
	maxLinks = 40
)

// ErrBreakout is the class of errors about entries that name something outside
// of the tree.
var ErrBreakout = errors.New("outside of the layer's root")

// ErrLimit is the class of errors about layers above a bound.
var ErrLimit = errors.New("layer above the limit")

// Options tune [Apply]. The zero value unpacks onto a complete tree.
type Options struct {
	Whiteouts Whiteouts
	// UserXattr makes overlay marks in the "user." namespace, as overlays
	// mounted with "userxattr" want them.
	UserXattr bool
	// MaxEntries bounds the number of entries; 0 is DefaultMaxEntries.
	MaxEntries int64
	// MaxBytes bounds the bytes of file data; 0 is no bound. Holes are free.
	MaxBytes int64
	// MapOwner, where set, changes the owner of each file.
	MapOwner func(uid, gid uint32) (uint32, uint32, error)
	// Under, a clean path, is the directory of the tree that all is put below; links
	// that are there already still lead to the tree's root.
	Under string
	// Base, where set, is that directory, open: it is meant whatever its name has
	// come to be meanwhile. It stays the caller's.
	Base *os.File
	// KeepRoot leaves owner, mode and attributes of the archive's root as they are.
	KeepRoot bool
	// KeepKinds refuses to put a directory where something else is, and the other
	// way round, with a [KindError].
	KeepKinds bool
	// AllowUnmapped goes on where the file system or the user namespace
	// refuses devices and privileged attributes.
	AllowUnmapped bool
}

// Stats count what [Apply] wrote.
type Stats struct {
	Entries int64 // members of the archive
	Inodes  int64 // files made; hard links share one
	Bytes   int64 // of file data
	Size    int64 // Bytes rounded up to blocks, with directories
	Skipped int64 // attributes that were not set
}

// KindError says that a directory would take the place of something else, or the
// other way round.
type KindError struct {
	Path string // as the archive calls it
	// IsDir tells that the tree has a directory there.
	IsDir bool
}

// Error says which.
func (e *KindError) Error() string {
	if e.IsDir {
		return fmt.Sprintf("cannot overwrite directory %q with non-directory", e.Path)
	}
	return fmt.Sprintf("cannot overwrite non-directory %q with directory", e.Path)
}
