package mounts

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
)

// options is a mount's option list, sorted by who must be told.
type options struct {
	bind, recursive bool
	readOnly        bool
	set, clear      uint64 // mount attributes
	propagation     uintptr
	data            []string // for the file system
}

var attributes = map[string]struct {
	attr  uint64
	clear bool
}{
	"ro":            {attr: unix.MOUNT_ATTR_RDONLY},
	"rw":            {attr: unix.MOUNT_ATTR_RDONLY, clear: true},
	"nosuid":        {attr: unix.MOUNT_ATTR_NOSUID},
	"suid":          {attr: unix.MOUNT_ATTR_NOSUID, clear: true},
	"nodev":         {attr: unix.MOUNT_ATTR_NODEV},
	"dev":           {attr: unix.MOUNT_ATTR_NODEV, clear: true},
	"noexec":        {attr: unix.MOUNT_ATTR_NOEXEC},
	"exec":          {attr: unix.MOUNT_ATTR_NOEXEC, clear: true},
	"nodiratime":    {attr: unix.MOUNT_ATTR_NODIRATIME},
	"diratime":      {attr: unix.MOUNT_ATTR_NODIRATIME, clear: true},
	"nosymfollow":   {attr: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"noatime":       {attr: unix.MOUNT_ATTR_NOATIME},
	"strictatime":   {attr: unix.MOUNT_ATTR_STRICTATIME},
	"relatime":      {attr: unix.MOUNT_ATTR_RELATIME},
	"norelatime":    {},
	"nostrictatime": {},
	"defaults":      {},
}

var propagations = map[string]uintptr{
	"private":     unix.MS_PRIVATE,
	"rprivate":    unix.MS_PRIVATE | unix.MS_REC,
	"slave":       unix.MS_SLAVE,
	"rslave":      unix.MS_SLAVE | unix.MS_REC,
	"shared":      unix.MS_SHARED,
	"rshared":     unix.MS_SHARED | unix.MS_REC,
	"unbindable":  unix.MS_UNBINDABLE,
	"runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

func parse(m mount.Mount) options {
	o := options{bind: m.Type == "bind" || m.Type == "rbind", recursive: m.Type == "rbind"}
	for _, opt := range m.Options {
		switch opt {
		case "bind":
			o.bind = true
			continue
		case "rbind":
			o.bind, o.recursive = true, true
			continue
		}
		if p, ok := propagations[opt]; ok {
			o.propagation = p
			continue
		}
		a, ok := attributes[opt]
		switch {
		case !ok:
			o.data = append(o.data, opt)
		case a.clear:
			o.clear, o.set = o.clear|a.attr, o.set&^a.attr
		default:
			o.set, o.clear = o.set|a.attr, o.clear&^a.attr
		}
	}
	if o.set&(unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_STRICTATIME) != 0 {
		o.clear |= unix.MOUNT_ATTR__ATIME // the modes exclude each other
	}
	o.readOnly = o.set&unix.MOUNT_ATTR_RDONLY != 0
	return o
}

// splitLayers undoes overlayfs's list syntax: entries are separated by colons,
// and a backslash keeps the next byte. A "::" starts data-only layers.
func splitLayers(list string) (lower, data []string) {
	var cur strings.Builder
	dst := &lower
	flush := func() {
		if cur.Len() > 0 {
			*dst = append(*dst, cur.String())
			cur.Reset()
		}
	}
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			cur.WriteByte(list[i])
		case list[i] == ':':
			if i > 0 && list[i-1] == ':' {
				dst = &data
				continue
			}
			flush()
		default:
			cur.WriteByte(list[i])
		}
	}
	flush()
	return lower, data
}

// EscapeLayer writes a path as an element of overlayfs's lowerdir list.
func EscapeLayer(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}
