package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

// A client without BuildKit leaves out of its archive what .dockerignore names, but always
// sends that file and the Dockerfile, and leaves it to the daemon to keep steps from seeing
// them where they are named, too. A Dockerfile from elsewhere is sent under another name
// each time, which would let no COPY of the context be found in the cache.

const (
	ignoreFile = ".dockerignore"
	// foreignPrefix begins the name that clients give a Dockerfile from elsewhere.
	foreignPrefix = ".dockerfile."
	// lookahead is how much of an archive is looked at for its .dockerignore, in bytes.
	// Clients sort what they send, so that it comes early.
	lookahead = 1 << 20
	// maxControl bounds the two files, in bytes.
	maxControl = 8 << 20
)

// contextBody is what a client sent, without what steps are not to see.
type contextBody struct {
	io.ReadCloser
	// dockerfile is the text of a Dockerfile that is not in the body any more, or nil.
	dockerfile []byte
}

// hideIgnored makes one of an archive that isn't compressed, or of a Dockerfile alone. If
// anything is to be left out, all of it is kept in a file meanwhile, in folder temp; most
// bounds its bytes, 0 doesn't.
func hideIgnored(plain io.ReadCloser, dockerfile, temp string, most int64) (*contextBody, error) {
	if plain == nil {
		return &contextBody{}, nil
	}
	name := path.Clean("/" + dockerfile)[1:]
	if name == "" {
		name = "Dockerfile"
	}
	in := bufio.NewReaderSize(plain, lookahead)
	if !strings.HasPrefix(path.Base(name), foreignPrefix) {
		head, _ := in.Peek(lookahead)
		if len(hidden(controlFiles(head, ignoreFile)[ignoreFile], name)) == 0 {
			return &contextBody{ReadCloser: &joined{in, plain}}, nil
		}
	}
	f, err := spool(in, temp, most)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return strip(f, closers{f, plain}, name)
}

// controlFiles reads files of an archive, which may be cut off.
func controlFiles(archive []byte, names ...string) map[string][]byte {
	found, _ := findFiles(bytes.NewReader(archive), names...)
	return found
}

func findFiles(archive io.Reader, names ...string) (map[string][]byte, error) {
	found := map[string][]byte{}
	for in := tar.NewReader(archive); len(found) < len(names); {
		h, err := in.Next()
		if err != nil {
			return found, err
		}
		for _, name := range names {
			if entryName(h) != name || h.Typeflag != tar.TypeReg || h.Size > maxControl {
				continue
			}
			if found[name], err = io.ReadAll(in); err != nil {
				delete(found, name)
				return found, err
			}
		}
	}
	return found, nil
}

func entryName(h *tar.Header) string { return path.Clean("/" + h.Name)[1:] }

// hidden are those of the two files that a .dockerignore names.
func hidden(ignore []byte, dockerfile string) map[string]bool {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(ignore))
	if err != nil || len(patterns) == 0 {
		return nil
	}
	out := map[string]bool{}
	for _, name := range []string{ignoreFile, dockerfile} {
		if ok, err := patternmatcher.MatchesOrParentMatches(name, patterns); err == nil && ok {
			out[name] = true
		}
	}
	return out
}

// spool keeps a body in a file that has no name.
func spool(in io.Reader, temp string, most int64) (*os.File, error) {
	f, err := os.CreateTemp(temp, "context-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if most > 0 {
		in = io.LimitReader(in, most+1)
	}
	n, cerr := io.Copy(f, in)
	if most > 0 && n > most {
		cerr = (&scale{bytes: most}).tooMuch()
	}
	if err = errors.Join(err, cerr); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// strip leaves out of an archive in a file what its .dockerignore says. What it returns
// closes all.
func strip(f *os.File, all io.Closer, dockerfile string) (*contextBody, error) {
	found, err := findFiles(io.NewSectionReader(f, 0, 1<<62), ignoreFile, dockerfile)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("the build's context: %w: %w", err, errdefs.ErrInvalidArgument), all.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	without := hidden(found[ignoreFile], dockerfile)
	if found[dockerfile] == nil {
		delete(without, dockerfile) // what it is is not for us to say
	}
	out := &contextBody{}
	if without[dockerfile] {
		out.dockerfile = found[dockerfile]
	}
	from, to := io.Pipe()
	go func() { to.CloseWithError(copyArchive(to, f, without)) }()
	out.ReadCloser = &joined{from, closers{from, all}}
	return out, nil
}

// copyArchive copies what isn't left out.
func copyArchive(to io.Writer, from io.Reader, without map[string]bool) error {
	in, out := tar.NewReader(from), tar.NewWriter(to)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if without[entryName(h)] {
			continue
		}
		h.Format = tar.FormatUnknown // as it takes
		if h.Typeflag == tar.TypeGNUSparse {
			h.Typeflag = tar.TypeReg
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

// joined reads the one and closes the other.
type joined struct {
	io.Reader
	io.Closer
}

type closers []io.Closer

// Close closes all.
func (c closers) Close() error {
	var errs []error
	for _, each := range c {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}

// Attributes of the frontend that take the Dockerfile from a folder of the session.
const (
	attrDockerfileFrom = "dockerfilekey"
	attrFilename       = "filename"
	ownDockerfile      = "dockerfile"
)

// offerDockerfile lets a session offer a Dockerfile by itself, and says so in the
// attributes. Call done at the end.
func offerDockerfile(text []byte, temp string, attrs map[string]string) (offer session.Attachable, done func() error, err error) {
	dir, err := os.MkdirTemp(temp, "dockerfile-")
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return os.RemoveAll(dir) }
	var folder fsutil.FS
	if err = os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o600); err == nil {
		folder, err = fsutil.NewFS(dir)
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	attrs[attrDockerfileFrom], attrs[attrFilename] = ownDockerfile, "Dockerfile"
	return filesync.NewFSSyncProvider(filesync.StaticDirSource{ownDockerfile: folder}), done, nil
}
