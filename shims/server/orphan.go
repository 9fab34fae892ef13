package server

import (
	"os"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// orphanAge is how long a zombie must have been one before it is taken for an
// orphan. Processes that somebody waits for are collected within milliseconds.
const orphanAge = time.Second

// subreap makes the shim the parent of processes whose own parent, a runtime
// program or one in a container without a pid namespace, has gone. It is needed
// with runtime programs only.
var subreap = sync.OnceValue(func() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	go reapOrphans(signals)
	return nil
})

// reapOrphans collects the zombies that nobody waits for.
func reapOrphans(signals <-chan os.Signal) {
	for range signals {
		for pid := zombie(); pid != 0; {
			time.Sleep(orphanAge)
			again := zombie()
			if again == pid {
				unix.Wait4(pid, nil, unix.WNOHANG, nil)
				again = zombie()
			}
			pid = again
		}
	}
}

// siginfo is the part of siginfo_t that waitid fills.
type siginfo struct {
	signo, errno, code, _, pid int32
	_                          [108]byte
}

// zombie finds an ended child without collecting it; 0 if there is none.
func zombie() int {
	var info siginfo
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(info.pid)
}
