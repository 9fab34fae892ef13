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
	// Work is the folder for its log, which is there when Run fails.
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

// Run calls it and waits. An error has what its log says went wrong. Nothing interrupts
// it: processes would be left half changed. It has bounds of its own (--timeout).
func (c *Call) Run(verb string) error {
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
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // a terminal's signals are not for it
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("criu %s: %w", verb, c.failure(filepath.Join(c.Work, logName), err))
	}
	return nil
}

// maxLog bounds how much of a log is read, in bytes.
const maxLog = 1 << 20

// failure is the first error in the log that tells something.
func (c *Call) failure(path string, err error) error {
	f, ferr := os.Open(path)
	if ferr != nil {
		return err
	}
	defer f.Close()
	if said := firstError(io.LimitReader(f, maxLog)); said != "" {
		return fmt.Errorf("%s (the log is %s)", said, path)
	}
	return fmt.Errorf("%w (the log is %s)", err, path)
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
