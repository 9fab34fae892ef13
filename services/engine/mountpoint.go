package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// MountPoint is something that is mounted into a container, as it was settled when
// the container was made.
type MountPoint struct {
	Type mount.Type
	// Name is a volume's name, or an image's ID.
	Name string `json:",omitempty"`
	// Source is a path of the host: where the files of a bind mount or a volume are.
	Source string `json:",omitempty"`
	Target string
	// Driver keeps the volume.
	Driver string `json:",omitempty"`
	// Mode is how the caller put it, for showing.
	Mode        string            `json:",omitempty"`
	ReadOnly    bool              `json:",omitempty"`
	Propagation mount.Propagation `json:",omitempty"`
	// Subpath is the part of a volume or image that is mounted.
	Subpath string `json:",omitempty"`
	// Anonymous volumes go with the container, if that is asked for.
	Anonymous bool `json:",omitempty"`
	// NoCopy leaves an empty volume empty.
	NoCopy bool `json:",omitempty"`
	// Flat mounts leave out what is mounted below the source; ShallowReadOnly ones
	// leave that writable.
	Flat, ShallowReadOnly bool `json:",omitempty"`
	// MakeSource makes a missing folder of the host.
	MakeSource bool `json:",omitempty"`
	// Options are those of a tmpfs.
	Options []string `json:",omitempty"`
	// Snapshot is the key of an image's tree.
	Snapshot string `json:",omitempty"`

	// labels and options are those of a volume that is to be made.
	labels, options map[string]string
}

// mountsFor settles what is mounted into a container, in the order of the targets;
// volumes are not made yet. What is given later goes before what is given earlier:
// other containers' volumes, binds, mounts, tmpfs; and where nothing is mounted, the
// anonymous volumes.
func (e *Engine) mountsFor(c *api.Config, h *api.HostConfig) ([]MountPoint, error) {
	from, err := e.mountsFrom(h.VolumesFrom)
	if err != nil {
		return nil, err
	}
	own, err := mountsOf(h)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(from, func(m MountPoint) bool { return taken(own, m.Target) })
	all = append(all, own...)
	for target := range c.Volumes {
		if !filepath.IsAbs(target) || filepath.Clean(target) == "/" {
			return nil, invalid("invalid volume specification: '%s'", target)
		}
		if target = filepath.Clean(target); taken(all, target) {
			continue
		}
		all = append(all, MountPoint{Type: mount.TypeVolume, Target: target, Driver: h.VolumeDriver, Anonymous: true})
	}
	parts := slices.ContainsFunc(all, func(m MountPoint) bool { return m.Subpath != "" })
	if parts && !mountsForOthers(h.Runtime) { // it would mount the whole
		return nil, missing("HostConfig.Mounts: a subpath with the runtime %s is not available yet", h.Runtime)
	}
	slices.SortStableFunc(all, func(a, b MountPoint) int { return strings.Compare(a.Target, b.Target) })
	return all, nil
}

func taken(list []MountPoint, target string) bool {
	return slices.ContainsFunc(list, func(m MountPoint) bool { return m.Target == target })
}

// mountsFrom are the mounts of other containers: container[:mode].
func (e *Engine) mountsFrom(list []string) (out []MountPoint, err error) {
	for _, text := range list {
		ref, mode, _ := strings.Cut(text, ":")
		for _, o := range strings.Split(mode, ",") {
			if !slices.Contains([]string{"", "ro", "rw", "z", "Z"}, o) {
				return nil, invalid("invalid mode: %s", mode)
			}
		}
		other, err := e.lookup(ref)
		if err != nil {
			return nil, invalid("%v", err)
		}
		for _, m := range e.view(other).Mounts {
			if m.Type != mount.TypeVolume && m.Type != mount.TypeBind {
				continue
			}
			m.NoCopy = true
			m.ReadOnly = m.ReadOnly || slices.Contains(strings.Split(mode, ","), "ro")
			if mode != "" {
				m.Mode = mode
			}
			out = slices.DeleteFunc(out, func(have MountPoint) bool { return have.Target == m.Target })
			out = append(out, m)
		}
	}
	return out, nil
}

// mountsOf are the mounts that were asked for one by one.
func mountsOf(h *api.HostConfig) ([]MountPoint, error) {
	var out []MountPoint
	for _, text := range h.Binds {
		m, err := bind(text)
		if err != nil {
			return nil, err
		}
		if m.Type == mount.TypeVolume {
			m.Driver = h.VolumeDriver
		}
		out = append(out, m)
	}
	for _, m := range h.Mounts {
		made, err := mountOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	for target, opts := range h.Tmpfs {
		if !filepath.IsAbs(target) {
			return nil, invalid("invalid mount path: '%s' mount path must be absolute", target)
		}
		if filepath.Clean(target) == "/" {
			return nil, invalid("invalid mount specification: destination can't be '/'")
		}
		m := MountPoint{Type: mount.TypeTmpfs, Target: target, Options: slices.Clone(tmpfsDefaults)}
		if opts != "" {
			m.Options = append(m.Options, strings.Split(opts, ",")...)
		}
		out = append(out, m)
	}
	for i := range out {
		out[i].Target = filepath.Clean(out[i].Target)
		if taken(out[:i], out[i].Target) {
			return nil, invalid("Duplicate mount point: %s", out[i].Target)
		}
	}
	return out, nil
}

const mountBind = mount.TypeBind

var tmpfsDefaults = []string{"noexec", "nosuid", "nodev"}

// propagations are modes of how mounts are seen on the other side.
var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// bind reads source:target[:options], or a target alone.
func bind(text string) (MountPoint, error) {
	m := MountPoint{Type: mount.TypeBind, MakeSource: true}
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		parts = []string{"", parts[0]}
	} else if len(parts) > 3 || parts[0] == "" {
		return m, invalid("invalid volume specification: '%s'", text)
	}
	m.Source, m.Target = parts[0], parts[1]
	if !filepath.IsAbs(m.Source) {
		m = MountPoint{Type: mount.TypeVolume, Name: m.Source, Target: m.Target, Anonymous: m.Source == ""}
	}
	if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
		return m, invalid("invalid volume specification: '%s': invalid mount config for type \"%s\": invalid mount path: '%s' mount path must be absolute and not the root", text, m.Type, m.Target)
	}
	if len(parts) == 3 {
		m.Mode = parts[2]
	}
	return m, m.modes()
}

// modes reads the options of a bind.
func (m *MountPoint) modes() error {
	for _, o := range strings.Split(m.Mode, ",") {
		switch {
		case o == "ro":
			m.ReadOnly = true
		case o == "nocopy" && m.Type == mount.TypeVolume:
			m.NoCopy = true
		case o == "rw", o == "", o == "consistent", o == "cached", o == "delegated":
		case o == "z", o == "Z": // labels of SELinux, which isn't there
		case slices.Contains(propagations, o) && m.Type == mount.TypeBind:
			m.Propagation = mount.Propagation(o)
		default:
			return invalid("invalid mode: %s", m.Mode)
		}
	}
	if m.Type == mount.TypeBind && m.Propagation == "" {
		m.Propagation = mount.PropagationRPrivate
	}
	return nil
}

func mountOf(m mount.Mount) (MountPoint, error) {
	out := MountPoint{Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly}
	bad := func(format string, args ...any) (MountPoint, error) {
		return out, invalid("invalid mount config for type %q: %s", m.Type, fmt.Sprintf(format, args...))
	}
	if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
		return bad("invalid mount path: '%s' mount path must be absolute and not the root", m.Target)
	}
	for _, given := range []struct {
		is    bool
		kind  mount.Type
		field string
	}{{m.BindOptions != nil, mount.TypeBind, "BindOptions"}, {m.VolumeOptions != nil, mount.TypeVolume, "VolumeOptions"},
		{m.ImageOptions != nil, mount.TypeImage, "ImageOptions"}, {m.TmpfsOptions != nil, mount.TypeTmpfs, "TmpfsOptions"}} {
		if given.is && given.kind != m.Type {
			return bad("field %s must not be specified", given.field)
		}
	}
	switch m.Type {
	case mount.TypeBind:
		if !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
		return bindMount(out, m)
	case mount.TypeTmpfs:
		if m.Source != "" {
			return bad("field Source must not be specified")
		}
		return tmpfsMount(out, m)
	case mount.TypeVolume:
		return volumeMount(out, m)
	case mount.TypeImage:
		return imageMount(out, m)
	case mount.TypeCluster:
		return out, missing("HostConfig.Mounts: mounts of type %q are not available yet", m.Type)
	}
	return bad("mount type unknown")
}

func bindMount(out MountPoint, m mount.Mount) (MountPoint, error) {
	out.Source, out.Propagation = m.Source, mount.PropagationRPrivate
	b := m.BindOptions
	if b == nil {
		return out, nil
	}
	if b.Propagation != "" {
		out.Propagation = b.Propagation
	}
	switch {
	case !slices.Contains(propagations, string(out.Propagation)):
		return out, invalid("invalid propagation %q", out.Propagation)
	case b.ReadOnlyNonRecursive && !m.ReadOnly:
		return out, invalid("mount source %q: ReadOnlyNonRecursive needs ReadOnly", m.Source)
	case b.ReadOnlyForceRecursive && !m.ReadOnly:
		return out, invalid("mount source %q: ReadOnlyForceRecursive needs ReadOnly", m.Source)
	case b.ReadOnlyForceRecursive && b.ReadOnlyNonRecursive:
		return out, invalid("mount source %q: ReadOnlyForceRecursive and ReadOnlyNonRecursive exclude each other", m.Source)
	case b.ReadOnlyForceRecursive && out.Propagation != mount.PropagationRPrivate:
		return out, invalid("mount source %q: ReadOnlyForceRecursive needs the propagation rprivate, not %q", m.Source, out.Propagation)
	}
	out.Flat, out.ShallowReadOnly, out.MakeSource = b.NonRecursive, b.ReadOnlyNonRecursive, b.CreateMountpoint
	return out, nil
}

func volumeMount(out MountPoint, m mount.Mount) (MountPoint, error) {
	out.Name, out.Anonymous, out.Mode = m.Source, m.Source == "", "z" // as in Docker, whatever it is mounted on
	o := m.VolumeOptions
	if o == nil {
		return out, nil
	}
	out.NoCopy, out.Subpath, out.labels = o.NoCopy, o.Subpath, o.Labels
	if d := o.DriverConfig; d != nil {
		out.Driver, out.options = d.Name, d.Options
	}
	if out.Subpath == "" {
		return out, nil
	}
	if out.Anonymous {
		return out, invalid("invalid mount config for type %q: must not set Subpath when using anonymous volumes", m.Type)
	}
	return out, validSubpath(m.Type, out.Subpath)
}

// imageMount is the tree of an image, which is read-only in any case.
func imageMount(out MountPoint, m mount.Mount) (MountPoint, error) {
	if m.Source == "" {
		return out, invalid("invalid mount config for type %q: field Source must not be empty", m.Type)
	}
	out.Source, out.ReadOnly = m.Source, true
	if m.ImageOptions == nil || m.ImageOptions.Subpath == "" {
		return out, nil
	}
	out.Subpath = m.ImageOptions.Subpath
	return out, validSubpath(m.Type, out.Subpath)
}

// validSubpath refuses a path that isn't below. Links on the way are followed within
// the volume by who mounts it.
func validSubpath(kind mount.Type, path string) error {
	if !filepath.IsLocal(path) || strings.ContainsRune(path, 0) {
		return invalid("invalid mount config for type %q: subpath must be a relative path within the volume", kind)
	}
	return nil
}

func tmpfsMount(out MountPoint, m mount.Mount) (MountPoint, error) {
	out.Options = slices.Clone(tmpfsDefaults)
	t := m.TmpfsOptions
	if t == nil {
		return out, nil
	}
	if t.SizeBytes > 0 {
		out.Options = append(out.Options, "size="+strconv.FormatInt(t.SizeBytes, 10))
	}
	if t.Mode != 0 {
		out.Options = append(out.Options, "mode="+strconv.FormatUint(uint64(t.Mode), 8))
	}
	for _, o := range t.Options {
		if !slices.Contains(tmpfsFlags, strings.Join(o, "")) && !(len(o) == 2 && slices.Contains(tmpfsKeys, o[0])) {
			return out, invalid("invalid mount config for type %q: invalid option: %q", m.Type, o)
		}
		out.Options = append(out.Options, strings.Join(o, "="))
	}
	return out, nil
}

// Options of a tmpfs that callers may give.
var (
	tmpfsFlags = []string{"exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime", "strictatime"}
	tmpfsKeys  = []string{"uid", "gid", "nr_inodes", "nr_blocks", "mpol", "size", "mode", "huge"}
)

// spec is the mount for the runtime.
func (m *MountPoint) spec() specs.Mount {
	out := specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source}
	if m.Type == mount.TypeTmpfs {
		out.Type, out.Source, out.Options = "tmpfs", "tmpfs", slices.Clone(m.Options)
		if m.ReadOnly {
			out.Options = append(out.Options, "ro")
		}
		return out
	}
	recursion, propagation := "rbind", string(m.Propagation)
	if m.Flat {
		recursion = "bind"
	}
	if propagation == "" {
		propagation = string(mount.PropagationRPrivate)
	}
	out.Options = []string{recursion, propagation}
	if m.ReadOnly {
		out.Options = append(out.Options, "ro")
		if !m.ShallowReadOnly && recursion == "rbind" {
			out.Options = append(out.Options, "rro")
		}
	}
	if m.Subpath != "" {
		out.Options = append(out.Options, subpathOption+m.Subpath)
	}
	return out
}

// subpathOption tells the runtime to mount a part of the source only, found without
// leaving the source.
const subpathOption = "x-orlop-subpath="

func specMounts(list []MountPoint) []specs.Mount {
	out := make([]specs.Mount, len(list))
	for i := range list {
		out[i] = list[i].spec()
	}
	return out
}
