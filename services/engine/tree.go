package engine

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Change is how a path differs from the image.
type Change struct {
	Path string
	Kind ChangeKind

	same bool // a folder whose owner and mode are as before
}

// ChangeKind is what has happened to a path; the numbers are Docker's.
type ChangeKind uint8

// The kinds.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// maxChanges bounds what Changes lists.
const maxChanges = 1 << 20

// whiteout begins the names by which layers mark what was removed (image-spec).
const whiteout = ".wh."

// trees shows the container's tree, and that of its image, read-only.
func (e *Engine) trees(ctx context.Context, c *Container, fn func(below, above string) error) error {
	ctx, end, err := lease.Hold(ctx, e.Leases, "changes", makingLife)
	if err != nil {
		return err
	}
	defer end(false)
	v := e.view(c)
	s, err := e.Snapshots(v.Snapshotter)
	if err != nil {
		return err
	}
	upper, err := s.Mounts(ctx, v.Snapshot)
	if err != nil {
		return err
	}
	info, err := s.Stat(ctx, v.Snapshot)
	if err != nil {
		return err
	}
	var lower []mount.Mount
	if info.Parent != "" {
		key := "changes-" + newID()
		if lower, err = s.View(ctx, key, info.Parent, nil); err != nil {
			return err
		}
		defer s.Remove(context.WithoutCancel(ctx), key)
	}
	return mounts.WithTempReadOnly(ctx, lower, func(below string) error {
		return mounts.WithTempReadOnly(ctx, upper, func(above string) error { return fn(below, above) })
	})
}

// Export writes a container's tree as a tar archive.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	ctx = e.in(ctx)
	v := e.view(c)
	s, err := e.Snapshots(v.Snapshotter)
	if err != nil {
		return err
	}
	rootfs, err := s.Mounts(ctx, v.Snapshot)
	if err != nil {
		return err
	}
	err = mounts.WithTempReadOnly(ctx, rootfs, func(root string) error {
		return layer.Diff(ctx, "", root, w, layer.DiffOptions{})
	})
	if err == nil {
		e.tell(c, "export")
	}
	return err
}

// Changes lists how a container's tree differs from its image, by path.
func (e *Engine) Changes(ctx context.Context, ref string) ([]Change, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	out := []Change{}
	own, err := e.mountPoints(ctx, c)
	if err != nil {
		return nil, err
	}
	err = e.trees(e.in(ctx), c, func(below, above string) error {
		r, w := io.Pipe()
		var g errgroup.Group
		g.Go(func() error {
			err := layer.Diff(ctx, below, above, w, layer.DiffOptions{})
			w.CloseWithError(err)
			return err
		})
		g.Go(func() error {
			var err error
			out, err = readChanges(r, below)
			out = withoutMountPoints(out, own)
			r.CloseWithError(err)
			return err
		})
		return g.Wait()
	})
	return out, err
}

// mountPoints are where the runtime mounts things: it makes them if they are
// missing, which is no change of the container's.
func (e *Engine) mountPoints(ctx context.Context, c *Container) (map[string]bool, error) {
	m, err := e.made(ctx, c)
	if err != nil {
		return nil, err
	}
	return m.mounts, nil
}

// readChanges reads them from a layer.
func readChanges(r io.Reader, below string) ([]Change, error) {
	old, err := os.OpenRoot(below) // symbolic links can't lead out of it
	if err != nil {
		return nil, err
	}
	defer old.Close()
	out := []Change{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		dir, base := path.Split(name)
		switch {
		case name == "/":
			continue
		case base == ".wh..wh..opq":
			continue // its folder is there as changed
		case strings.HasPrefix(base, whiteout):
			out = append(out, Change{Path: path.Join(dir, strings.TrimPrefix(base, whiteout)), Kind: Deleted})
		default:
			ch := Change{Path: name, Kind: Added}
			if info, err := old.Lstat(name[1:]); err == nil {
				ch.Kind, ch.same = Modified, h.Typeflag == tar.TypeDir && sameAttributes(info, h)
			}
			out = append(out, ch)
		}
		if len(out) > maxChanges {
			return nil, invalid("the container has more than %d changes", maxChanges)
		}
	}
}

// withoutMountPoints leaves out what the runtime has made to mount things on, and
// folders in which nothing else has happened.
func withoutMountPoints(all []Change, own map[string]bool) []Change {
	touched := map[string]bool{} // folders with a mount point that was made
	for _, ch := range all {
		if ch.Kind == Added && own[ch.Path] {
			touched[path.Dir(ch.Path)] = true
		}
	}
	all = slices.DeleteFunc(all, func(ch Change) bool { return ch.Kind == Added && own[ch.Path] })
	for _, ch := range all {
		delete(touched, path.Dir(ch.Path))
	}
	return slices.DeleteFunc(all, func(ch Change) bool { return ch.Kind == Modified && ch.same && touched[ch.Path] })
}

// sameAttributes tells whether a folder has the owner and mode that it had.
func sameAttributes(old fs.FileInfo, h *tar.Header) bool {
	st, ok := old.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == h.Uid && int(st.Gid) == h.Gid && old.Mode() == h.FileInfo().Mode()
}
