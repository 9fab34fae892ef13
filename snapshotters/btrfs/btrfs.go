// Package btrfs keeps snapshots as subvolumes of a btrfs file system: an active
// snapshot is a writable snapshot of its parent's subvolume, made and removed at
// once and sharing all data.
//
// Layout: <root>/snapshots/<id>/fs is the subvolume. Mounts are binds of it.
// Crash behaviour and concurrency are those of package disk. Layers can't be
// unpacked without their parents, so it is no Unpacker.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/disk"
)

// Driver is the snapshotter driver.
type Driver struct{ disk.Trees }

var _ snapshotters.Driver = (*Driver)(nil)

// Open takes the folder root, which is made if missing, into use. It must be on
// btrfs.
func Open(root string) (*Driver, error) {
	s, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("btrfs: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("btrfs: %s: %w", root, err), s.Close())
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return nil, errors.Join(fmt.Errorf("btrfs: %s is on another file system: %w", root, errdefs.ErrNotImplemented), s.Close())
	}
	return &Driver{disk.Trees{Store: s, Name: "btrfs"}}, nil
}

// Create implements [snapshotters.Driver].
func (d *Driver) Create(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	most, err := s.MaxSize()
	if err != nil {
		return nil, fmt.Errorf("btrfs: %w", err)
	}
	err = d.Make(s.ID, func(dir string) error {
		if err := d.fill(s, dir); err != nil || most == 0 {
			return err
		}
		if err := limitSubvolume(filepath.Join(dir, "fs"), uint64(most)); err != nil {
			return errors.Join(err, destroySubvolume(dir))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("btrfs: %w", err)
	}
	return d.Show(s), nil
}

// fill makes a snapshot's subvolume.
func (d *Driver) fill(s snapshotters.Storage, dir string) error {
	switch {
	case len(s.Parents) == 0:
		if err := createSubvolume(dir); err != nil {
			return err
		}
		return os.Chmod(filepath.Join(dir, "fs"), 0o755)
	case s.Kind == snapshotters.KindView:
		return nil // the parent itself is shown
	}
	return snapshotSubvolume(d.Tree(s.Parents[0]), dir)
}

// Remove implements [snapshotters.Driver]. A subvolume that can't go at once
// (in use, or with others inside) goes the way of directories.
func (d *Driver) Remove(_ context.Context, id string) error {
	if err := disk.CheckID(id); err != nil {
		return err
	}
	_ = destroySubvolume(d.Path(id))
	return d.Store.Remove(id)
}

// The kernel's ioctls (linux/btrfs.h); each acts on the folder that holds the
// subvolume, which is always called "fs" here.
const (
	ioctlCreate   = 0x5000940e // BTRFS_IOC_SUBVOL_CREATE
	ioctlDestroy  = 0x5000940f // BTRFS_IOC_SNAP_DESTROY
	ioctlSnapshot = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2
	ioctlLimit    = 0x8030942b // BTRFS_IOC_QGROUP_LIMIT, on the subvolume itself
	limitsOwn     = 1 << 1     // BTRFS_QGROUP_LIMIT_MAX_EXCL
)

// limitArgs is struct btrfs_ioctl_qgroup_limit_args; group 0 is the subvolume's.
type limitArgs struct {
	group, flags, all, own, _, _ uint64
}

// limitSubvolume bounds what a subvolume takes that it shares with no other. Its group
// outlives it without bytes, as every subvolume's does; btrfs qgroup clear-stale takes
// those.
func limitSubvolume(path string, bytes uint64) error {
	a := limitArgs{flags: limitsOwn, own: bytes}
	err := ioctl(path, ioctlLimit, unsafe.Pointer(&a))
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ENOENT) {
		return snapshotters.Unbounded(path + " is on btrfs without quotas: btrfs quota enable turns them on")
	}
	return err
}

type volArgs struct {
	fd   int64
	name [4088]byte
}

type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

func createSubvolume(dir string) error {
	var a volArgs
	copy(a.name[:], "fs")
	return ioctl(dir, ioctlCreate, unsafe.Pointer(&a))
}

func destroySubvolume(dir string) error {
	var a volArgs
	copy(a.name[:], "fs")
	return ioctl(dir, ioctlDestroy, unsafe.Pointer(&a))
}

func snapshotSubvolume(from, dir string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	a := volArgsV2{fd: int64(src.Fd())}
	copy(a.name[:], "fs")
	return ioctl(dir, ioctlSnapshot, unsafe.Pointer(&a))
}

func ioctl(dir string, request uintptr, arg unsafe.Pointer) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return &os.PathError{Op: "subvolume", Path: dir, Err: errno}
	}
	return nil
}
