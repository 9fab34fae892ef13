package local

import (
	"errors"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/projquota"
)

// limit bounds what all files below an empty folder take together, in bytes.
func (d *Driver) limit(dir string, bytes int64) error {
	err := projquota.Limit(dir, d.quota.Next(), bytes)
	if errors.Is(err, projquota.ErrUnsupported) {
		return &quotaError{"quota size requested but no quota support: " + d.root + " must be on xfs or ext4 that is mounted with project quotas (prjquota)"}
	}
	return err
}

// quotaError says that the file system can't bound folders.
type quotaError struct{ text string }

// Error returns the text.
func (e *quotaError) Error() string { return e.text }

// Unwrap returns the class.
func (e *quotaError) Unwrap() error { return errdefs.ErrInvalidArgument }
