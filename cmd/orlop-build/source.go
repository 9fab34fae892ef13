package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"

	"github.com/orlop/orlop/cmd/internal/session"
)

// maxDockerfile bounds what is read as a Dockerfile from standard input, in bytes.
const maxDockerfile = 16 << 20

// sources offers what a build is made from.
type sources struct {
	opt   *client.SolveOpt
	attrs map[string]string
	dirs  []string // temporary ones
}

func (c *sources) close() {
	for _, dir := range c.dirs {
		os.RemoveAll(dir)
	}
}

// add offers the context and the Dockerfile.
func (c *sources) add(s *session.Session, source, file string) error {
	switch {
	case source == "-" && file == "-":
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	case source == "-":
		return c.standardInput(s, file)
	case isRemote(source):
		c.attrs["context"] = source
		if file == "-" {
			return c.dockerfileFrom(s.In)
		}
		if file != "" {
			c.attrs["filename"] = file
		}
		return nil
	}
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("unable to prepare context: path %q not found", source)
	}
	if !info.IsDir() {
		return fmt.Errorf("unable to prepare context: %q is no directory", source)
	}
	if err := c.mount("context", source); err != nil {
		return err
	}
	if file == "-" {
		return c.dockerfileFrom(s.In)
	}
	return c.dockerfile(source, file)
}

func isRemote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git@") || strings.HasPrefix(source, "github.com/")
}

// mount offers a folder.
func (c *sources) mount(name, dir string) error {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	c.opt.LocalMounts[name] = fs
	return nil
}

// dockerfile offers the folder of the Dockerfile, which is looked for from here, and
// then from the context.
func (c *sources) dockerfile(dir, file string) error {
	path := filepath.Join(dir, "Dockerfile")
	if file != "" {
		path = file
		if _, err := os.Stat(path); err != nil && !filepath.IsAbs(file) {
			path = filepath.Join(dir, file)
		}
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("unable to prepare context: unable to evaluate symlinks in Dockerfile path: %w", err)
	}
	c.attrs["filename"] = filepath.Base(path)
	return c.mount("dockerfile", filepath.Dir(path))
}

// dockerfileFrom offers a Dockerfile that is read.
func (c *sources) dockerfileFrom(in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, maxDockerfile+1))
	if err != nil {
		return err
	}
	if len(data) > maxDockerfile {
		return fmt.Errorf("the Dockerfile is larger than %d bytes", maxDockerfile)
	}
	dir, err := c.temporary()
	if err != nil {
		return err
	}
	c.attrs["filename"] = "Dockerfile"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), data, 0o600); err != nil {
		return err
	}
	return c.mount("dockerfile", dir)
}

func (c *sources) temporary() (string, error) {
	dir, err := os.MkdirTemp("", "orlop-build-")
	if err == nil {
		c.dirs = append(c.dirs, dir)
	}
	return dir, err
}

// standardInput offers what comes there: an archive is the context, anything else a
// Dockerfile that needs none.
func (c *sources) standardInput(s *session.Session, file string) error {
	in := bufio.NewReaderSize(s.In, 1024)
	head, err := in.Peek(512)
	if err != nil && len(head) == 0 {
		return fmt.Errorf("failed to peek context header from STDIN: %w", err)
	}
	if isArchive(head) {
		up := uploadprovider.New()
		c.attrs["context"] = up.Add(io.NopCloser(in))
		c.opt.Session = append(c.opt.Session, up)
		if file != "" {
			c.attrs["filename"] = file
		}
		return nil
	}
	if file != "" {
		return errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	dir, err := c.temporary()
	if err != nil {
		return err
	}
	if err := c.mount("context", dir); err != nil {
		return err
	}
	return c.dockerfileFrom(in)
}

// isArchive knows tars, plain and as they are compressed.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}

// further offers contexts of other names.
func (c *sources) further(list []string) error {
	for _, v := range list {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return fmt.Errorf("invalid context value: %s, expected key=value", v)
		}
		if strings.HasPrefix(value, "docker-image://") || strings.HasPrefix(value, "target:") || isRemote(value) {
			c.attrs["context:"+name] = value
			continue
		}
		if info, err := os.Stat(value); err != nil || !info.IsDir() {
			return fmt.Errorf("context %s: %q is neither a folder nor an address", name, value)
		}
		if err := c.mount(name, value); err != nil {
			return err
		}
		c.attrs["context:"+name] = "local:" + name
	}
	return nil
}
