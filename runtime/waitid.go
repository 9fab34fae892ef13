package runtime

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitid reaps the child behind a pidfd.
func waitid(pidfd int, info *siginfo) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, uintptr(pidfd),
		uintptr(unsafe.Pointer(info)), unix.WEXITED, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
