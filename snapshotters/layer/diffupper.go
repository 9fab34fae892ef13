package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// DiffUpper writes the layer that an overlay's upper directory is, reading
// nothing else. An upper directory that refers to lower layers is
// [ErrNotDiffable]; part of the tar may have been written by then.
func DiffUpper(ctx context.Context, upper string, w io.Writer, opts DiffOptions) error {
	dir, err := openDir(unix.AT_FDCWD, upper)
	if err != nil {
		return err
	}
	defer dir.Close()
	d := newDiffer(ctx, w, opts)
	if err := d.upperDir(dir, ""); err != nil {
		return err
	}
	return d.tar.Close()
}

func (d *differ) upperDir(dir *os.File, path string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	names, err := sortedNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.upperEntry(dir, path, name); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) upperEntry(dir *os.File, parent, name string) error {
	path := join(parent, name)
	var st unix.Stat_t
	if err := lstatat(dir, name, &st); err != nil {
		return err
	}
	if isWhiteout(&st) {
		return d.mark(join(parent, whiteoutPrefix+name))
	}
	opaque, err := overlayMarks(dir, name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return d.entry(dir, name, path, &st)
	}
	if err := d.header(dir, name, path+"/", &st, ""); err != nil {
		return err
	}
	if opaque {
		if err := d.mark(join(path, opaqueMarker)); err != nil {
			return err
		}
	}
	sub, err := openDir(int(dir.Fd()), name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return d.upperDir(sub, path)
}

// overlayMarks reads overlayfs's attributes of an entry.
func overlayMarks(dir *os.File, name string) (opaque bool, err error) {
	all, err := allXattrs(dir, name)
	if err != nil {
		return false, err
	}
	for _, x := range all {
		if !isOverlayXattr(x.name) {
			continue
		}
		switch key := x.name[strings.LastIndexByte(x.name, '.')+1:]; key {
		case "opaque":
			if x.value != "y" { // "x": whiteouts are attributes
				return false, fmt.Errorf("%s=%q: %w", x.name, x.value, ErrNotDiffable)
			}
			opaque = true
		case "redirect", "metacopy", "whiteout", "whiteouts":
			return false, fmt.Errorf("%s: %w", x.name, ErrNotDiffable)
		}
	}
	return opaque, nil
}

// DiffNothing writes the layer of a tree that changed nothing.
func DiffNothing(w io.Writer) error { return tar.NewWriter(w).Close() }
