package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/task"
	"golang.org/x/sys/unix"
)

// openStreams opens the fifos of a task that another program made.
func openStreams(o IO, p *task.Process) (*streams, error) {
	s := &streams{io: o, restore: func() {}}
	var err error
	if s.outFile, err = openFifo(p.Stdout, os.O_RDONLY|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	if p.Stderr != "" && p.Stderr != p.Stdout && !o.Terminal {
		if s.errFile, err = openFifo(p.Stderr, os.O_RDONLY|unix.O_NONBLOCK); err != nil {
			s.close()
			return nil, err
		}
	}
	if p.Stdin != "" && o.Interactive {
		if s.inFile, err = openFifo(p.Stdin, os.O_RDWR|unix.O_NONBLOCK); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func openFifo(path string, flag int) (*os.File, error) {
	switch {
	case path == "":
		return nil, errors.New("its streams are not connected to anything")
	case strings.Contains(path, "://"):
		return nil, fmt.Errorf("its output goes to %s", path)
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf("stream %q is no absolute path", path)
	}
	f, err := os.OpenFile(path, flag|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		f.Close()
		return nil, fmt.Errorf("stream %s is no fifo", path)
	}
	return f, nil
}
