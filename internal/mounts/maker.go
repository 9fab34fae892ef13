package mounts

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// AsOwner calls fn as somebody else to file systems: what it makes belongs to that
// user and group, though it may do all that this process may. Where owners are shifted
// nobody but those that have a shifted id can make files, not even root. Only fn's own
// thread changes.
func AsOwner(uid, gid uint32, fn func() error) error {
	runtime.LockOSThread()
	ownUID, _ := unix.SetfsuidRetUid(-1)
	ownGID, _ := unix.SetfsgidRetGid(-1)
	if err := becomeOwner(uid, gid); err != nil {
		return fmt.Errorf("files of user %d, group %d: %w", uid, gid, err)
	}
	defer func() {
		if becomeOwner(uint32(ownUID), uint32(ownGID)) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
	}()
	return fn()
}

// becomeOwner sets who the thread is to file systems. The kernel takes capabilities
// from those that aren't root there; they are taken back.
func becomeOwner(uid, gid uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before, after [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		return err
	}
	unix.Setfsgid(int(gid))
	unix.Setfsuid(int(uid))
	// These calls tell no errors, but who one was before: asking for nobody changes nothing.
	if now, _ := unix.SetfsuidRetUid(-1); uint32(now) != uid {
		return unix.EPERM
	}
	if now, _ := unix.SetfsgidRetGid(-1); uint32(now) != gid {
		return unix.EPERM
	}
	if err := unix.Capget(&header, &after[0]); err != nil {
		return err
	}
	for i := range after {
		after[i].Effective = before[i].Effective
	}
	return unix.Capset(&header, &after[0])
}
