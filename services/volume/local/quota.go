package local

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

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

// projects gives out numbers of projects.
type projects struct{ last uint32 }

// firstProject leaves the low numbers to people.
const firstProject = 1 << 24

func (p *projects) taken(id uint32) { p.last = max(p.last, id) }

func (p *projects) next() uint32 {
	p.last = max(p.last+1, firstProject)
	return p.last
}

// projectOf is the project that a folder's files count for.
func projectOf(dir string) (uint32, error) {
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

// limit bounds what all files below an empty folder take together, in bytes.
func (d *Driver) limit(dir string, bytes int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var state quotaState
	state.version = 1
	if err := quotactl(f, qXGetState, 0, unsafe.Pointer(&state)); err != nil || state.flags&enforcesProject == 0 {
		return &quotaError{"quota size requested but no quota support: " + d.root + " must be on xfs or ext4 that is mounted with project quotas (prjquota)"}
	}
	d.mu.Lock()
	id := d.quota.next()
	d.mu.Unlock()
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

// quotaError says that the file system can't bound folders.
type quotaError struct{ text string }

// Error returns the text.
func (e *quotaError) Error() string { return e.text }

// Unwrap returns the class.
func (e *quotaError) Unwrap() error { return errdefs.ErrInvalidArgument }
