// Package pages gives back memory that a program has mapped and needs no more.
package pages

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Forget unmaps the pages of the program's own file that can't be written: its code
// and constants. What the start alone has run, such as the inits of all packages, so
// doesn't count as the process's any more and is the first that the kernel takes
// back; what is needed again is mapped again from the page cache, without reading
// (madvise(2), MADV_DONTNEED on a private mapping of a file).
//
// It is safe while other goroutines run. On error some pages stay.
func Forget() error {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		first, last, ok := readOnly(lines.Text(), own)
		if !ok {
			continue
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, first, last-first, unix.MADV_DONTNEED); e != 0 {
			return fmt.Errorf("madvise %x-%x: %w", first, last, e)
		}
	}
	return lines.Err()
}

// readOnly reads a line of /proc/PID/maps (proc(5)) and tells whether it is a mapping
// of the file that can't be written.
func readOnly(line, file string) (first, last uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || strings.Join(fields[5:], " ") != file || strings.Contains(fields[1], "w") {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(fields[0], "%x-%x", &first, &last); err != nil || last <= first {
		return 0, 0, false
	}
	return first, last, true
}
