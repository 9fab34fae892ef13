package build

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"

	coremount "github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/services/build/stores"
)

// Where the root of containers is another user of the host, that of steps is, too. What
// is on the disk doesn't know of it, as with containers: whatever a step sees is shown to
// it with owners shifted. So results are the same, and are found again, under either
// setting.

// shownFolder is the folder, in that for state, where it is shown.
const shownFolder = "shown"

// remapper shows steps their trees and mounts so. A nil one shows them as they are.
type remapper struct {
	maps    userns.Maps
	shifts  *userns.Namespaces
	dir     string         // where they are shown
	written *stores.Writes // what snapshots that can be written are made of

	mu    sync.Mutex
	users map[string]int // by the place of BuildKit's that is shifted
}

// remapping makes one for the builder whose folder for state is that, nil where users is.
func remapping(users *userns.Maps, state string, written *stores.Writes) (*remapper, error) {
	if users == nil {
		return nil, nil
	}
	dir := filepath.Join(state, shownFolder)
	if err := errors.Join(openTo(state, users), os.MkdirAll(dir, 0o711)); err != nil {
		return nil, err
	}
	ns, err := userns.New(*users, false)
	if err != nil {
		return nil, err
	}
	return &remapper{maps: *users, shifts: ns, dir: dir, written: written, users: map[string]int{}}, nil
}

// openTo lets the root of steps pass a folder, on its way to their trees, and nobody else:
// their specs in there may have secrets.
func openTo(dir string, users *userns.Maps) error {
	_, gid, err := users.Host(0, 0)
	if err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, -1, int(gid)), os.Chmod(dir, 0o710))
}

func (r *remapper) close() error {
	if r == nil {
		return nil
	}
	return r.shifts.Close()
}

// step shifts all that a step sees. Its working folder is made if it is missing, which
// nobody can who isn't known in there.
func (r *remapper) step(root executor.Mount, list []executor.Mount, cwd string) (executor.Mount, []executor.Mount) {
	if r == nil {
		return root, list
	}
	root.Src = shifted{root.Src, r, cwd}
	list = slices.Clone(list)
	for i := range list {
		list[i].Src = shifted{list[i].Src, r, ""}
	}
	return root, list
}

// shifted is something to mount whose owners are shifted.
type shifted struct {
	executor.Mountable
	by  *remapper
	cwd string // to be made in there, if it isn't empty
}

// Mount finds out what is to be mounted.
func (s shifted) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	ref, err := s.Mountable.Mount(ctx, readonly)
	if err != nil {
		return nil, err
	}
	return shiftedRef{ref, s}, nil
}

type shiftedRef struct {
	executor.MountableRef
	shifted
}

// Mount mounts it shifted. What can be written is mounted by BuildKit already, in a place
// that all who write there share: it is shifted there. Anything else is mounted in a folder
// of ours, which is bound.
func (s shiftedRef) Mount() ([]mount.Mount, func() error, error) {
	s.by.mu.Lock()
	defer s.by.mu.Unlock()
	list, release, err := s.MountableRef.Mount()
	if err != nil || len(list) == 1 && list[0].Type == "tmpfs" { // which is made by the step's own root
		return list, release, err
	}
	if release == nil {
		release = func() error { return nil }
	}
	at, hide, err := s.by.shift(list)
	done := func() error {
		s.by.mu.Lock()
		defer s.by.mu.Unlock()
		return errors.Join(hide(), release())
	}
	if err == nil && s.cwd != "" {
		err = s.by.makeFolder(at, s.cwd)
	}
	if err != nil {
		return nil, nil, errors.Join(err, hide(), release())
	}
	options := []string{"rbind"}
	if slices.ContainsFunc(list, func(m mount.Mount) bool { return slices.Contains(m.Options, "ro") }) {
		options = append(options, "ro")
	}
	return []mount.Mount{{Type: "bind", Source: at, Options: options}}, done, nil
}

// shift makes mounts whose owners are shifted; at is where. Call hide in any case, before
// what they are made of is let go. Called with mu held.
func (r *remapper) shift(list []mount.Mount) (at string, hide func() error, err error) {
	place, own := r.shared(list)
	if place == "" {
		at, err = r.show(list)
		return at, func() error { return r.hide(at) }, err
	}
	if r.users[place]++; own != nil {
		err = errors.Join(mounts.Unmount(place, false), mounts.All(r.shifted(own), place))
	}
	return place, func() error {
		if r.users[place]--; r.users[place] == 0 {
			delete(r.users, place)
		}
		return nil
	}, err
}

// shared finds the place of BuildKit's where a snapshot is mounted that can be written, and
// what is to be mounted there instead, nil if it is already. It is empty if it is no such.
func (r *remapper) shared(list []mount.Mount) (string, []coremount.Mount) {
	if len(list) != 1 || !slices.ContainsFunc(list[0].Options, isBind) {
		return "", nil
	}
	place := list[0].Source
	if r.users[place] > 0 {
		return place, nil
	}
	info, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(place))
	if err != nil || len(info) == 0 || info[0].FSType != "overlay" {
		return "", nil
	}
	for option := range strings.SplitSeq(info[0].VFSOptions, ",") {
		if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
			if own := r.written.Find(upper); own != nil {
				return place, own
			}
		}
	}
	return "", nil
}

// show mounts a list shifted; at is where, also if it failed.
func (r *remapper) show(list []mount.Mount) (at string, err error) {
	at = filepath.Join(r.dir, rand.Text())
	if err := makePlace(at, list); err != nil {
		return at, err
	}
	return at, mounts.All(r.shifted(stores.FromMounts(list)), at)
}

// shifted has the owners of mounts shifted.
func (r *remapper) shifted(list []coremount.Mount) []coremount.Mount {
	out := slices.Clone(list)
	for i := range out {
		out[i].Options = append(slices.Clone(out[i].Options), mounts.IDMap(fmt.Sprintf("/proc/self/fd/%d", r.shifts.User.Fd())))
	}
	return out
}

// makePlace makes a folder, or a file where a file is bound.
func makePlace(at string, list []mount.Mount) error {
	if len(list) == 1 {
		if st, err := os.Stat(list[0].Source); err == nil && !st.IsDir() && slices.ContainsFunc(list[0].Options, isBind) {
			return os.WriteFile(at, nil, 0o600)
		}
	}
	return os.Mkdir(at, 0o711)
}

func isBind(option string) bool { return option == "bind" || option == "rbind" }

// hide undoes show.
func (r *remapper) hide(at string) error {
	err := errors.Join(mounts.UnmountAll(at, true), os.Remove(at))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// makeFolder makes a folder in a tree that is shown, as the root of steps.
func (r *remapper) makeFolder(at, name string) error {
	uid, gid, err := r.maps.Host(0, 0)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	name = "." + path.Clean("/"+name)
	if _, err := root.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return nil // what can't be followed here may be in there
	}
	return mounts.AsOwner(uid, gid, func() error { return root.MkdirAll(name, 0o755) })
}

// remapped gives the steps of a provider their users.
type remapped struct {
	network.Provider
	users userns.Maps
}

// New makes the namespace of one step.
func (p remapped) New(ctx context.Context, hostname string, o network.NamespaceOptions) (network.Namespace, error) {
	ns, err := p.Provider.New(ctx, hostname, o)
	if err != nil {
		return nil, err
	}
	return remappedNamespace{ns, p.users}, nil
}

type remappedNamespace struct {
	network.Namespace
	users userns.Maps
}

// Set names it in the step's spec.
func (n remappedNamespace) Set(spec *specs.Spec) error {
	setUsers(spec, &n.users, "")
	return n.Namespace.Set(spec)
}

// setUsers puts a step into a user namespace, a new one if path is empty.
func setUsers(spec *specs.Spec, users *userns.Maps, path string) {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = users.UIDs, users.GIDs
}
