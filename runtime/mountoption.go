package runtime

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountOptions are fstab-style options in the kernel's terms.
type mountOptions struct {
	set, clear       uint64   // MOUNT_ATTR_* of the mount itself
	recSet, recClear uint64   // the same for the whole tree below it
	propagation      uint64   // MS_SHARED, …
	recPropagation   bool     // … for the whole tree
	data             []string // for the file system, "key" or "key=value"
	bind, recursive  bool
	remount          bool
	copyUp           bool // tmpcopyup
	idmap, ridmap    bool
	subpath          string // part of a bind's source; links in it can't lead out
}

// attrOption is an option that turns attributes on (and others off).
type attrOption struct{ set, clear uint64 }

const atimeMask = unix.MOUNT_ATTR__ATIME

var attrOptions = map[string]attrOption{
	"ro": {set: unix.MOUNT_ATTR_RDONLY}, "rw": {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
	"noatime": {unix.MOUNT_ATTR_NOATIME, atimeMask}, "atime": {unix.MOUNT_ATTR_RELATIME, atimeMask},
	"relatime": {unix.MOUNT_ATTR_RELATIME, atimeMask}, "norelatime": {unix.MOUNT_ATTR_STRICTATIME, atimeMask},
	"strictatime": {unix.MOUNT_ATTR_STRICTATIME, atimeMask}, "nostrictatime": {unix.MOUNT_ATTR_RELATIME, atimeMask},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
}

type propagationOption struct {
	flag      uint64
	recursive bool
}

var propagationOptions = map[string]propagationOption{
	"shared": {unix.MS_SHARED, false}, "rshared": {unix.MS_SHARED, true},
	"slave": {unix.MS_SLAVE, false}, "rslave": {unix.MS_SLAVE, true},
	"private": {unix.MS_PRIVATE, false}, "rprivate": {unix.MS_PRIVATE, true},
	"unbindable": {unix.MS_UNBINDABLE, false}, "runbindable": {unix.MS_UNBINDABLE, true},
}

// superblockOptions are flags that the file system itself takes by name.
var superblockOptions = map[string]string{
	"sync": "sync", "dirsync": "dirsync", "lazytime": "lazytime", "mand": "mand",
	"async": "async", "nolazytime": "nolazytime", "nomand": "nomand",
}

// ignoredOptions mean something to tools, not to the kernel.
var ignoredOptions = map[string]bool{
	"defaults": true, "auto": true, "noauto": true, "user": true, "nouser": true, "_netdev": true,
	"nofail": true, "silent": true, "loud": true, "iversion": true, "noiversion": true, "acl": false,
	"newinstance": true, "copy": true, "nocopy": true,
}

// parseOptions sorts options; unknown ones are the file system's.
func parseOptions(options []string) mountOptions {
	var m mountOptions
	for _, o := range options {
		if a, ok := attrOptions[o]; ok {
			m.set, m.clear = m.set&^a.clear|a.set, m.clear&^a.set|a.clear
			continue
		}
		if a, ok := attrOptions[strings.TrimPrefix(o, "r")]; ok && o != "ro" {
			m.recSet, m.recClear = m.recSet&^a.clear|a.set, m.recClear&^a.set|a.clear
			continue
		}
		if p, ok := propagationOptions[o]; ok {
			m.propagation, m.recPropagation = p.flag, p.recursive
			continue
		}
		m.other(o)
	}
	return m
}

// subpathOption begins the option of a bind mount that names the part of the source
// to be mounted: it is looked up as if the source were the root of all, so whoever
// writes there may put links in the way and gets no further than the source.
const subpathOption = "x-orlop-subpath="

func (m *mountOptions) other(o string) {
	switch o {
	case "bind":
		m.bind = true
	case "rbind":
		m.bind, m.recursive = true, true
	case "remount":
		m.remount = true
	case "tmpcopyup":
		m.copyUp = true
	case "idmap":
		m.idmap = true
	case "ridmap":
		m.idmap, m.ridmap = true, true
	default:
		if path, ok := strings.CutPrefix(o, subpathOption); ok {
			m.subpath = path
		} else if name, ok := superblockOptions[o]; ok {
			m.data = append(m.data, name)
		} else if !ignoredOptions[o] {
			m.data = append(m.data, o)
		}
	}
}

// attr is the argument of mount_setattr for the mount itself, and whether
// there is anything to set.
func (m *mountOptions) attr() (unix.MountAttr, bool) {
	a := unix.MountAttr{Attr_set: m.set, Attr_clr: m.clear}
	if a.Attr_set&atimeMask != 0 || a.Attr_clr&atimeMask != 0 {
		a.Attr_clr |= atimeMask // the kernel wants the whole field cleared
	}
	a.Attr_clr &^= a.Attr_set &^ atimeMask
	return a, a.Attr_set != 0 || a.Attr_clr != 0
}

// recAttr is the same for the whole tree.
func (m *mountOptions) recAttr() (unix.MountAttr, bool) {
	r := mountOptions{set: m.recSet, clear: m.recClear}
	return r.attr()
}

// KnownMountOptions lists the options that are not handed to the file system.
func KnownMountOptions() []string {
	out := []string{"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"}
	for o := range attrOptions {
		out = append(out, o, "r"+o)
	}
	for o := range propagationOptions {
		out = append(out, o)
	}
	for o := range superblockOptions {
		out = append(out, o)
	}
	return out
}

func rootPropagation(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	p, ok := propagationOptions[s]
	if !ok {
		return 0, invalid("rootfsPropagation %q", s)
	}
	return p.flag, nil
}

// isBind reports whether a mount is a bind mount, by type or by option.
func isBind(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

func mountName(m specs.Mount) string {
	if isBind(m) {
		return fmt.Sprintf("bind %s at %s", m.Source, m.Destination)
	}
	return fmt.Sprintf("mount %s at %s", m.Type, m.Destination)
}
