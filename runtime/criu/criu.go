// Package criu runs CRIU (https://criu.org), the program that writes processes into
// the files of a folder and makes them again from there.
package criu

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is what is looked for on the PATH if no other is named.
const Program = "criu"

// ErrMissing says that the program is not on this machine.
var ErrMissing = errors.New("the program criu is needed for checkpoints, and not installed")

// Call is one call of CRIU.
type Call struct {
	// Program is its path; empty is [Program].
	Program string
	// Image is the folder with the files of the processes.
	Image string
	// Work is the folder for its log, dump.log or restore.log.
	Work string

	args  []string
	files []*os.File
}

// Add appends arguments.
func (c *Call) Add(args ...string) { c.args = append(c.args, args...) }

// External says what is not part of the processes' files, but of the world around them:
// "mnt[…]:…", "net[…]:…", "file[…]" (criu(8)).
func (c *Call) External(what string) { c.Add("--external", what) }

// Inherit gives a file for what was external, or a pipe, when the files were written.
func (c *Call) Inherit(f *os.File, what string) {
	c.Add("--inherit-fd", fmt.Sprintf("fd[%d]:%s", 3+len(c.files), what))
	c.files = append(c.files, f)
}

// The verbs.
const (
	dump    = "dump"
	restore = "restore"
)

// Dump writes processes and waits. An error has what the log says went wrong. Nothing
// interrupts it, not even our end: processes would be left half changed. It has bounds
// of its own (--timeout).
func (c *Call) Dump() error { return c.run(dump) }

// Restore makes processes anew and waits. Its errors are those of Dump. It ends with us.
func (c *Call) Restore() error { return c.run(restore) }

func (c *Call) run(verb string) error {
	program := c.Program
	if program == "" {
		program = Program
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	logName := verb + ".log"
	args := append([]string{verb, "--images-dir", c.Image, "--work-dir", c.Work, "--log-file", logName, "-v2"}, c.args...)
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = c.files
	// A terminal's signals are not for it, and what it mounts for itself ends with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Unshareflags: unix.CLONE_NEWNS}
	if verb == restore { // of whose processes nobody else would know
		runtime.LockOSThread() // whose death is ours
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("criu %s: %w", verb, failure(filepath.Join(c.Work, logName), err))
	}
	return nil
}

// maxLog bounds how much of a log is read, in bytes.
const maxLog = 1 << 20

// failure is the first error in the log that tells something; if there is none, the log
// may have had no room.
func failure(path string, err error) error {
	f, ferr := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if ferr != nil {
		return err
	}
	defer f.Close()
	if said := firstError(io.LimitReader(f, maxLog)); said != "" {
		return errors.New(said)
	}
	_, ferr = f.WriteString("\n")
	return errors.Join(err, ferr)
}

// firstError finds it; that limits of its own can't be raised ends no call.
func firstError(log io.Reader) string {
	for s := bufio.NewScanner(log); s.Scan(); {
		line := s.Bytes()
		i := bytes.Index(line, []byte("Error ("))
		if i < 0 || bytes.Contains(line, []byte("RLIMIT_NOFILE")) {
			continue
		}
		if _, said, ok := strings.Cut(string(line[i:]), "): "); ok {
			return said
		}
	}
	return ""
}

// PID reads the file that --pidfile names.
func PID(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
