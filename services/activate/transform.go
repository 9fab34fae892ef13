package activate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/mount"
)

// transform does what the words before the type say, and returns the mount with
// its plain type.
func (w *work) transform(m mount.Mount) (mount.Mount, error) {
	for {
		word, rest, ok := strings.Cut(m.Type, "/")
		if !ok {
			return m, nil
		}
		m.Type = rest
		var err error
		switch word {
		case "format":
			m, err = w.format(m)
		case "mkdir":
			m, err = w.mkdir(m)
		default:
			err = fmt.Errorf("transform %q is none of format and mkdir: %w", word, errdefs.ErrNotImplemented)
		}
		if err != nil {
			return m, err
		}
	}
}

// gap is a word to be filled in, with one or two numbers of mounts.
var gap = regexp.MustCompile(`\{\{\s*([a-z]+)\s+(\d{1,4})(?:\s+(\d{1,4}))?\s*\}\}`)

func (w *work) format(m mount.Mount) (mount.Mount, error) {
	var errs []error
	fill := func(s string) string {
		return gap.ReplaceAllStringFunc(s, func(text string) string {
			g := gap.FindStringSubmatch(text)
			value, err := w.value(g[1], g[2], g[3])
			errs = append(errs, err)
			return value
		})
	}
	m.Source, m.Target = fill(m.Source), fill(m.Target)
	options := make([]string, len(m.Options))
	for i, o := range m.Options {
		options[i] = fill(o)
	}
	m.Options = options
	return m, errors.Join(errs...)
}

func (w *work) value(word, first, second string) (string, error) {
	a, err := w.at(first)
	if err != nil {
		return "", err
	}
	switch {
	case word == "mount" && second == "":
		return a.Point, nil
	case word == "source" && second == "":
		return a.Source, nil
	case word == "target" && second == "":
		return a.Target, nil
	case word == "overlay" && second != "":
		return w.overlay(first, second)
	}
	return "", fmt.Errorf("{{ %s }} is none of mount N, source N, target N and overlay A B: %w", strings.TrimSpace(word+" "+first+" "+second), errdefs.ErrInvalidArgument)
}

func (w *work) at(number string) (mount.Active, error) {
	n, err := strconv.Atoi(number)
	if err != nil || n >= len(w.active) {
		return mount.Active{}, fmt.Errorf("there are %d mounts before it, none has number %s: %w", len(w.active), number, errdefs.ErrInvalidArgument)
	}
	return w.active[n], nil
}

// overlay joins the places of mounts, in either direction.
func (w *work) overlay(first, last string) (string, error) {
	a, _ := strconv.Atoi(first)
	b, _ := strconv.Atoi(last)
	step := 1
	if b < a {
		step = -1
	}
	var points []string
	for i := a; ; i += step {
		x, err := w.at(strconv.Itoa(i))
		if err != nil {
			return "", err
		}
		points = append(points, x.Point)
		if i == b {
			return strings.Join(points, ":"), nil
		}
	}
}

// mkdirOption names a folder to make.
const mkdirOption = "X-containerd.mkdir.path="

// mkdir makes folders below earlier mounts and takes the options that say so out.
func (w *work) mkdir(m mount.Mount) (mount.Mount, error) {
	var rest []string
	for _, o := range m.Options {
		spec, ok := strings.CutPrefix(o, mkdirOption)
		if !ok {
			rest = append(rest, o)
			continue
		}
		// The path may still have gaps of a format that stands behind.
		filled, err := w.format(mount.Mount{Source: spec})
		if err != nil {
			return m, err
		}
		if err := w.makeDir(filled.Source); err != nil {
			return m, err
		}
	}
	m.Options = rest
	return m, nil
}

// makeDir makes PATH[:MODE[:UID:GID]] below an earlier mount. Links within the
// mount can't lead out of it (os.Root).
func (w *work) makeDir(spec string) error {
	parts := strings.Split(spec, ":")
	mode, uid, gid, err := dirOwner(parts[1:])
	if err != nil {
		return fmt.Errorf("%s%s: %w", mkdirOption, spec, err)
	}
	for _, a := range w.active {
		rel, err := filepath.Rel(a.Point, parts[0])
		if err != nil || !filepath.IsLocal(rel) || a.Type == "loop" {
			continue
		}
		root, err := os.OpenRoot(a.Point)
		if err != nil {
			return err
		}
		defer root.Close()
		if err := root.Mkdir(rel, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if uid < 0 {
			return nil
		}
		return root.Lchown(rel, uid, gid)
	}
	return fmt.Errorf("folder %s is below none of the mounts before: %w", parts[0], errdefs.ErrInvalidArgument)
}

func dirOwner(parts []string) (mode fs.FileMode, uid, gid int, err error) {
	mode, uid, gid = 0o700, -1, -1
	if len(parts) > 0 {
		n, err := strconv.ParseUint(parts[0], 8, 9)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("mode %q: %w", parts[0], errdefs.ErrInvalidArgument)
		}
		mode = fs.FileMode(n)
	}
	if len(parts) == 2 || len(parts) > 3 {
		return 0, 0, 0, fmt.Errorf("want a mode, or a mode, a user and a group: %w", errdefs.ErrInvalidArgument)
	}
	if len(parts) == 3 {
		var bad error
		uid, err = strconv.Atoi(parts[1])
		gid, bad = strconv.Atoi(parts[2])
		if err != nil || bad != nil || uid < 0 || gid < 0 {
			return 0, 0, 0, fmt.Errorf("owner %s:%s: %w", parts[1], parts[2], errdefs.ErrInvalidArgument)
		}
	}
	return mode, uid, gid, nil
}
