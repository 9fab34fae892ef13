// Package mount is the vocabulary of file system mounts: what is mounted where,
// in the words of mount(8). It holds data only; internal/mounts and runtime
// perform mounts.
package mount

// Mount describes one mount. Several in a row are made in order, each on top of
// the one before unless Target says otherwise.
type Mount struct {
	// Type is the file system type ("overlay", "erofs", "bind", …).
	Type string
	// Source is the device, directory or file to mount.
	Source string
	// Target is a path below the directory that the list is mounted on; empty
	// means that directory itself.
	Target string
	// Options are fstab-style options ("ro", "rbind", "lowerdir=…").
	Options []string
}

// ReadOnly reports whether the options ask for a read-only mount.
func (m Mount) ReadOnly() bool {
	for _, o := range m.Options {
		if o == "ro" {
			return true
		}
	}
	return false
}
