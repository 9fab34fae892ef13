// Package projquota bounds folders by the project quotas of xfs and ext4: all files
// below a folder are of one project, and a project's bytes are bounded.
//
// The bound is kept by the file system and outlives everything here; it is gone for a
// folder's files when they are removed. Numbers of projects are chosen by who has the
// folders, each from a range of its own.
package projquota

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is for a file system that can't bound folders, or isn't mounted so.
var ErrUnsupported = errors.New("no project quotas: it takes xfs or ext4 that is mounted with prjquota")

// Project quotas of xfs and ext4 (linux/dqblk_xfs.h, linux/quota.h, linux/fs.h).
const (
	prjQuota        = 2
	qXSetLimit      = 'X'<<8 + 4
	qXGetState      = 'X'<<8 + 5
	enforcesProject = 1 << 5 // FS_QUOTA_PDQ_ENFD
	flagProject     = 2      // FS_PROJ_QUOTA
	fieldHard       = 1 << 3 // FS_DQ_BHARD
	fieldSoft       = 1 << 2 // FS_DQ_BSOFT
	basicBlock      = 512

	fsGetXattr     = 0x801c581f
	fsSetXattr     = 0x401c5820
	projectInherit = 0x200 // FS_XFLAG_PROJINHERIT
)

// fsXattr is struct fsxattr.
type fsXattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// diskQuota is struct fs_disk_quota.
type diskQuota struct {
	version                                        int8
	flags                                          int8
	fields                                         uint16
	id                                             uint32
	hard, soft, inodeHard, inodeSoft, blocks, inos uint64
	inodeTimer, blockTimer                         int32
	inodeWarns, blockWarns                         uint16
	_                                              [4]int8
	rtHard, rtSoft, rtBlocks                       uint64
	rtTimer                                        int32
	rtWarns                                        uint16
	_                                              int16
	_                                              [8]byte
}

// quotaState is the beginning of struct fs_quota_stat.
type quotaState struct {
	version int8
	flags   uint16
	_       [128]byte // more than the rest
}

// Numbers gives out numbers of projects. It is safe for concurrent use.
type Numbers struct {
	// First is the first number; low ones are people's.
	First uint32

	mu   sync.Mutex
	last uint32
}

// First numbers of those who give them out.
const (
	FirstVolume   = 1 << 24
	FirstSnapshot = 1 << 25
)

// Taken notes a folder, whose number is not given out again.
func (n *Numbers) Taken(dir string) {
	if id, err := of(dir); err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.last = max(n.last, id)
	}
}

// Next is a number that nobody has.
func (n *Numbers) Next() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(n.last+1, n.First)
	return n.last
}

// of is the project that a folder's files count for.
func of(dir string) (uint32, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var x fsXattr
	err = ioctl(f, fsGetXattr, unsafe.Pointer(&x))
	return x.project, err
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// quotactl makes a call about the file system of f (Linux ≥ 5.14).
func quotactl(f *os.File, cmd int, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(cmd<<8|prjQuota), uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Limit bounds what all files below an empty folder take together, in bytes. The number
// is the folder's from now on. It returns [ErrUnsupported].
func Limit(dir string, id uint32, bytes int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var state quotaState
	state.version = 1
	if err := quotactl(f, qXGetState, 0, unsafe.Pointer(&state)); err != nil || state.flags&enforcesProject == 0 {
		return ErrUnsupported
	}
	blocks := uint64(bytes+basicBlock-1) / basicBlock
	q := diskQuota{version: 1, flags: flagProject, fields: fieldHard | fieldSoft, id: id, hard: blocks, soft: blocks}
	if err := quotactl(f, qXSetLimit, id, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("quota of %s: %w", dir, err)
	}
	var x fsXattr
	if err := ioctl(f, fsGetXattr, unsafe.Pointer(&x)); err != nil {
		return fmt.Errorf("project of %s: %w", dir, err)
	}
	x.project, x.flags = id, x.flags|projectInherit
	if err := ioctl(f, fsSetXattr, unsafe.Pointer(&x)); err != nil {
		return fmt.Errorf("project of %s: %w", dir, err)
	}
	return nil
}
