// Package archive reads and writes images as tar archives: OCI image layouts, and
// the form of docker save.
//
// # Reading
//
// An archive is hostile input. Its entries are names for blobs and nothing is ever
// written under them; every blob goes to the content store, where its digest is
// checked if its name holds one. Sizes, the number of entries and the bytes after
// decompression are bounded, small files are kept in memory up to a bound, and
// memory doesn't grow with the archive. Stored blobs are held by the context's
// lease only; a crash or an error leaves them to the collector.
//
// # Writing
//
// Archives are reproducible: entries are sorted, have no owners and no times. They
// are an OCI layout with Docker's manifest.json beside it, so both kinds of tools
// read them.
//
// The functions keep nothing and may run side by side.
package archive

import (
	"fmt"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
)

// Names of files in archives.
const (
	layoutFile   = ocispec.ImageLayoutFile
	indexFile    = ocispec.ImageIndexFile
	dockerFile   = "manifest.json"
	blobsFolder  = "blobs/"
	layoutSchema = ocispec.ImageLayoutVersion
)

// NameAnnotation is containerd's annotation of an image's whole name, where
// "org.opencontainers.image.ref.name" often is the tag only.
const NameAnnotation = "io.containerd.image.name"

// Config bounds archives that are read.
type Config struct {
	// MaxBytes is how large an archive may be, uncompressed, in bytes; 0 is no
	// bound.
	MaxBytes int64 `toml:"max_archive_bytes"`
	// MaxEntries is how many entries it may have.
	MaxEntries int `toml:"max_archive_entries"`
}

// DefaultConfig is what an empty config means: 256 GiB, and several times what the
// largest images of many platforms have.
func DefaultConfig() Config { return Config{MaxBytes: 256 << 30, MaxEntries: 50_000} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxBytes < 0 || c.MaxEntries < 1 {
		return fmt.Errorf("max_archive_bytes is %d and max_archive_entries %d: the one must not be negative, the other at least 1", c.MaxBytes, c.MaxEntries)
	}
	return nil
}

// Archiver imports and exports. It is safe for concurrent use.
type Archiver struct {
	cfg   Config
	store content.Store
}

// New makes an Archiver.
func New(cfg Config, store content.Store) *Archiver { return &Archiver{cfg, store} }

func invalid(format string, args ...any) error {
	return fmt.Errorf("archive: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
