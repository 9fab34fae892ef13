package activate

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// loopTries bounds how often a free device may be taken by somebody else first.
const loopTries = 20

// attachLoop makes a loop device of a file and returns its path (loop(4)).
func attachLoop(file string, readOnly bool) (string, error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(file, flags, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("free loop device: %w", err)
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		err = configure(device, f, readOnly)
		if err == nil {
			return device, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("loop device %s of %s: %w", device, file, err)
		}
	}
	return "", fmt.Errorf("loop device of %s: others were quicker %d times: %w", file, loopTries, unix.EBUSY)
}

func configure(device string, f *os.File, readOnly bool) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	cfg := unix.LoopConfig{Fd: uint32(f.Fd())}
	if readOnly {
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], f.Name())
	return unix.IoctlLoopConfigure(int(dev.Fd()), &cfg)
}

// isLoop reports whether the device still belongs to the file: its number may
// have been given to another one.
func isLoop(device, file string) bool {
	name, ok := strings.CutPrefix(device, "/dev/loop")
	if !ok {
		return false
	}
	data, err := os.ReadFile("/sys/block/loop" + name + "/loop/backing_file")
	if err != nil {
		return false
	}
	a, err1 := os.Stat(strings.TrimSuffix(string(data), "\n"))
	b, err2 := os.Stat(file)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

func detachLoop(device string) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", device, err)
	}
	return nil
}
