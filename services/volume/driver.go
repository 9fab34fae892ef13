package volume

import (
	"context"

	"github.com/orlop/orlop/core/volume"
)

// Driver keeps the bytes of volumes. Calls about one volume never overlap, but for
// Path and Usage, which may come at any time.
type Driver interface {
	// Valid refuses options that the driver doesn't know, as InvalidArgument.
	Valid(options map[string]string) error
	// Make makes an empty volume, which is on disk when it returns. What a Make that
	// was cut off has left is taken over. A volume that can't have what its options
	// ask for is refused, and nothing is left.
	Make(ctx context.Context, v volume.Volume) error
	// Remove puts a volume out of the way, so that it isn't Found any more; after it
	// the record goes. What takes long is done by Discard. One that isn't there is no
	// error.
	Remove(ctx context.Context, v volume.Volume) error
	// Discard frees what removed volumes take.
	Discard(ctx context.Context) error
	// Path is where the volume's files are, or are mounted.
	Path(name string) string
	// Mount makes the files be at Path; Unmount ends that. Neither minds being called
	// twice.
	Mount(ctx context.Context, v volume.Volume) error
	Unmount(ctx context.Context, v volume.Volume) error
	// Fill lets fn write the first files of a volume, if it is empty. All of them
	// appear, or none: fn writes into another folder first. While others use the
	// volume they appear one by one.
	Fill(ctx context.Context, v volume.Volume, used bool, fn func(dir string) error) error
	// Usage is what the files take, in bytes.
	Usage(ctx context.Context, name string) (int64, error)
	// Found lists what is there at the start, and what was removed and is not yet
	// discarded.
	Found() (map[string]Content, error)
}

// Content tells what a driver has under a name.
type Content struct {
	// Empty is a volume without files, as one whose making was cut off.
	Empty bool
	// Removed is one that Remove has put out of the way.
	Removed bool
}
