package runtime

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitid waits for the child behind a pidfd, and collects it unless told not to.
func waitid(pidfd, options int, info *siginfo) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, uintptr(pidfd),
		uintptr(unsafe.Pointer(info)), uintptr(options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
