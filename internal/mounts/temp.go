package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/orlop/orlop/core/mount"
)

// WithTemp makes the mounts, calls fn with the directory that shows them and
// undoes them. The directory is good for lookups in this process until fn
// returns; for one mount it is a path below /proc/self/fd that no other process
// sees. An empty list gives fn an empty directory.
func WithTemp(ctx context.Context, ms []mount.Mount, fn func(root string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(ms) == 1 && ms[0].Target == "" {
		fd, err := Open(ms[0])
		if err == nil {
			defer fd.Close()
			// The final "." makes lstat see the directory, not the link.
			return fn(fmt.Sprintf("/proc/self/fd/%d/.", fd.Fd()))
		}
		if !errors.Is(err, errNeedsOldCall) {
			return err
		}
	}
	return attached(ms, fn)
}

// WithTempReadOnly is WithTemp with every mount read-only.
func WithTempReadOnly(ctx context.Context, ms []mount.Mount, fn func(root string) error) error {
	return WithTemp(ctx, ReadOnly(ms), fn)
}

// ReadOnly returns the mounts changed to be read-only. An overlay loses its
// upper directory to the lower ones, so that one in use elsewhere is shown
// without being opened twice.
func ReadOnly(ms []mount.Mount) []mount.Mount {
	out := make([]mount.Mount, len(ms))
	for i, m := range ms {
		opts := make([]string, 0, len(m.Options)+1)
		for _, o := range m.Options {
			if o != "rw" && o != "ro" {
				opts = append(opts, o)
			}
		}
		if m.Type == "overlay" {
			opts = upperToLower(opts)
		}
		m.Options = append(opts, "ro")
		out[i] = m
		if lower := loneLayer(m); lower != "" {
			out[i] = mount.Mount{Type: "bind", Source: lower, Target: m.Target, Options: []string{"rbind", "ro"}}
		}
	}
	return out
}

func upperToLower(opts []string) []string {
	var upper string
	kept := opts[:0:0]
	lower := -1
	for _, o := range opts {
		key, value := cut(o)
		switch key {
		case "upperdir":
			upper = value
		case "workdir", "volatile":
		case "lowerdir":
			lower = len(kept)
			kept = append(kept, o)
		default:
			kept = append(kept, o)
		}
	}
	if upper != "" && lower >= 0 {
		_, value := cut(kept[lower])
		kept[lower] = "lowerdir=" + EscapeLayer(unescape(upper)) + ":" + value
	}
	return kept
}

// loneLayer returns the only layer of an overlay that has no upper directory;
// overlayfs wants two.
func loneLayer(m mount.Mount) string {
	if m.Type != "overlay" {
		return ""
	}
	for _, o := range m.Options {
		if key, value := cut(o); key == "lowerdir" {
			if lower, data := splitLayers(value); len(lower) == 1 && len(data) == 0 {
				return lower[0]
			}
		}
	}
	return ""
}

func cut(opt string) (key, value string) {
	for i := range len(opt) {
		if opt[i] == '=' {
			return opt[:i], opt[i+1:]
		}
	}
	return opt, ""
}

// attached makes the mounts at a directory of their own.
func attached(ms []mount.Mount, fn func(root string) error) (err error) {
	dir, err := os.MkdirTemp("", "orlop-mount-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := All(ms, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, UnmountAll(dir, true)) }()
	return fn(dir)
}
