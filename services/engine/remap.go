package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	coremount "github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/services/spec"
)

// A container's root can be another user of the host (Config.UsernsRemap). Nothing on
// the disk knows of it: trees and volumes are kept with the owners that containers see,
// and are shown to a container with owners shifted by its user namespace. So images are
// there once, and a container may be started with or without, as the setting says then.

// remapUser is who has the ids of containers' users where the setting is "default".
const remapUser = "orlopremap"

// readMaps reads the setting userns_remap: "default", or user[:group], by name or
// number. Empty is none.
func readMaps(setting string) (*userns.Maps, error) {
	if setting == "" {
		return nil, nil
	}
	user, group, both := strings.Cut(setting, ":")
	if setting == "default" {
		user = remapUser
	}
	if !both {
		group = user
	}
	if user == "" || group == "" {
		return nil, invalid("userns_remap %q: it is \"default\" or user[:group]", setting)
	}
	if userns.Nested() {
		return nil, invalid("userns_remap: this daemon runs in a user namespace already, and so do its containers")
	}
	maps, err := userns.Granted(user, group)
	if err != nil {
		return nil, invalid("userns_remap: %v", err)
	}
	return maps, nil
}

// Users are the ids of containers' users, nil where they are the host's.
func (e *Engine) Users() *userns.Maps { return e.users }

// usersOf are the maps with which a container starts, nil for the host's users.
func (e *Engine) usersOf(h *hostConfig) *userns.Maps {
	if h.UsernsMode.IsHost() {
		return nil
	}
	return e.users
}

// checkUsers refuses what a container whose root isn't the host's can't have.
func (e *Engine) checkUsers(h *hostConfig) error {
	if e.usersOf(h) == nil {
		return nil
	}
	switch {
	case h.Privileged:
		return invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case h.NetworkMode.IsHost():
		return invalid("cannot share the host's network namespace when user namespaces are enabled")
	case h.PidMode.IsHost():
		return invalid("cannot share the host PID namespace when user namespaces are enabled")
	case h.IpcMode.IsHost():
		return invalid("cannot share the host IPC namespace when user namespaces are enabled")
	case !mountsForOthers(h.Runtime):
		return missing("user namespaces with the runtime %s are not available yet", h.Runtime)
	}
	return nil
}

// mountsForOthers tells whether our shim runs the runtime: it makes those mounts that
// the runtime can't make.
func mountsForOthers(runtime string) bool {
	return runtime == DefaultRuntime || runtime == "runc" || runtime == "crun"
}

// shiftRoot makes a root file system one that is shifted.
func (e *Engine) shiftRoot(h *hostConfig, rootfs []coremount.Mount) []coremount.Mount {
	users := e.usersOf(h)
	if users == nil {
		return rootfs
	}
	out := make([]coremount.Mount, len(rootfs))
	for i, m := range rootfs {
		out[i] = m
		out[i].Options = append(m.Options[:len(m.Options):len(m.Options)], users.Options()...)
	}
	return out
}

// remap puts a container into its user namespace: a new one, or that to which what it
// joins belongs.
func (e *Engine) remap(s *specs.Spec, c *Container, h *hostConfig, o *spec.Options) error {
	users := e.usersOf(h)
	if users == nil {
		return nil
	}
	path, err := e.userNamespace(c, h, o)
	if err != nil {
		return err
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	s.Linux.UIDMappings, s.Linux.GIDMappings = users.UIDs, users.GIDs
	kept := map[string]*MountPoint{}
	for i, m := range c.rec.Mounts {
		kept[m.Target] = &c.rec.Mounts[i]
	}
	for i := range s.Mounts {
		m := &s.Mounts[i]
		point := kept[m.Destination]
		own := strings.HasPrefix(m.Source, e.folder("")+string(filepath.Separator)) && point == nil
		switch {
		case m.Type == "overlay":
			m.Options = append(m.Options[:len(m.Options):len(m.Options)], users.Options()...)
		case own, point != nil && (point.Type == mount.TypeVolume || point.Type == mount.TypeImage):
			m.UIDMappings, m.GIDMappings = users.UIDs, users.GIDs
		}
	}
	return nil
}

// userNamespace is the one to join, "" for a new one.
func (e *Engine) userNamespace(c *Container, h *hostConfig, o *spec.Options) (string, error) {
	found, owner := "", uint64(0)
	for _, joined := range []spec.Namespace{o.Network, o.IPC, o.PID} {
		if joined == "" || joined == spec.Host {
			continue
		}
		path := filepath.Join(filepath.Dir(string(joined)), "user")
		if o.Network == joined && !h.NetworkMode.IsContainer() {
			path = e.box(c.ID).Users
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", fmt.Errorf("user namespace of %s: %w", joined, err)
		}
		if found != "" && owner != st.Ino {
			return "", conflict("container %s cannot join namespaces that belong to different user namespaces: %s, %s", c.ID, found, path)
		}
		found, owner = path, st.Ino
	}
	if found == "" {
		return "", nil
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &own); err == nil && own.Ino == owner {
		return "", conflict("container %s cannot join namespaces of a container that runs in the host's user namespace: run it with --userns=host, too", c.ID)
	}
	return found, nil
}

// asRoot calls fn as the container's root is to file systems: what it makes in the
// container is root's there.
func asRoot(users *userns.Maps, fn func() error) error {
	if users == nil {
		return fn()
	}
	uid, gid, err := users.Host(0, 0)
	if err != nil {
		return err
	}
	return mounts.AsOwner(uid, gid, fn)
}

// shift shows mounts as a container's users see them; nil shows them as they are.
type shift struct{ ns *userns.Namespaces }

// shifter is that of a container that doesn't run, with its maps.
func (e *Engine) shifter(h *hostConfig) (*userns.Maps, *shift, error) {
	users := e.usersOf(h)
	if users == nil {
		return nil, nil, nil
	}
	ns, err := userns.New(*users, false)
	if err != nil {
		return nil, nil, err
	}
	return users, &shift{ns}, nil
}

func (s *shift) close() {
	if s != nil {
		s.ns.Close()
	}
}

func (s *shift) one(m coremount.Mount) coremount.Mount {
	if s != nil {
		m.Options = append(m.Options[:len(m.Options):len(m.Options)], mounts.IDMap(fdPath(s.ns.User)))
	}
	return m
}

func (s *shift) all(list []coremount.Mount) []coremount.Mount {
	out := make([]coremount.Mount, len(list))
	for i, m := range list {
		out[i] = s.one(m)
	}
	return out
}

// withLive calls fn with the root of a container that runs.
func (e *Engine) withLive(ctx context.Context, c *Container, root *os.File, fn func(v *rootView) error) error {
	defer root.Close()
	m, err := e.made(ctx, c)
	if err != nil {
		return err
	}
	return asRoot(m.users, func() error { return fn(&rootView{root, m.users}) })
}

// inside gives files the owners that the container sees; nil changes nothing.
func (v *rootView) inside() func(uid, gid uint32) (uint32, uint32) {
	if v.users == nil {
		return nil
	}
	return v.users.Inside
}

// outside is the way back.
func (v *rootView) outside() func(uid, gid uint32) (uint32, uint32, error) {
	if v.users == nil {
		return nil
	}
	return v.users.Host
}
