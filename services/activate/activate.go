// Package activate is the mount manager: it makes the mounts that need more than
// mount(2), and leaves the others to whoever uses the files.
//
// # What needs more
//
// A mount of type "loop" becomes a loop device of its source. A type that begins
// with "format/" has words in its source, target and options that earlier mounts
// fill in: {{ mount N }} is where mount N is, {{ source N }} and {{ target N }}
// are its own words, {{ overlay A B }} the places of mounts A to B joined by
// colons. A type that begins with "mkdir/" first makes the folders that its
// options X-containerd.mkdir.path=PATH[:MODE[:UID:GID]] name, below an earlier
// mount only. Mounts before the last one that needs this are made here; so are
// all where the activation is temporary.
//
// # Files and crash
//
// The mounts of an activation are below <dir>/<namespace>/<random>/<number>. They
// are made first and recorded then, and removed after the record is. So what a
// crash leaves is a folder that no record names, and [Open] takes it away; a
// record whose mounts a reboot took away is removed as well.
//
// Methods are safe for concurrent use; of two activations of one name, one gets
// AlreadyExists.
package activate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/mounts"
)

// maxMounts bounds one activation; an overlay takes 500 layers.
const maxMounts = 512

// Manager activates mounts.
type Manager struct {
	store mount.Activations
	dir   string
}

var _ mount.Manager = (*Manager)(nil)

// Open takes the folder dir into use and removes what a crash or a reboot left.
func Open(ctx context.Context, store mount.Activations, dir string, all namespaces.Store) (*Manager, error) {
	m := &Manager{store: store, dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	list, err := all.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range list {
		if err := m.keepAlive(namespaces.With(ctx, ns.Name), known); err != nil {
			return nil, err
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, folder := range left {
		if !known[folder] {
			err = errors.Join(err, m.clear(folder))
		}
	}
	return m, err
}

// keepAlive notes the folders of activations whose mounts still stand, and drops
// the records of the others.
func (m *Manager) keepAlive(ctx context.Context, known map[string]bool) error {
	all, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if m.stands(a) {
			known[m.folder(a)] = true
			continue
		}
		if err := m.store.Delete(ctx, a.Name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) stands(a mount.Activation) bool {
	for _, x := range a.Active {
		if x.Type == "loop" {
			if !isLoop(x.Point, x.Source) {
				return false
			}
			continue
		}
		if on, err := mounts.IsMountPoint(x.Point); err != nil || !on {
			return false
		}
	}
	return len(a.Active) > 0
}

// folder is where an activation's mounts are; "" if they aren't ours.
func (m *Manager) folder(a mount.Activation) string {
	for _, x := range a.Active {
		if x.Type == "loop" {
			continue
		}
		if rel, err := filepath.Rel(m.dir, x.Point); err == nil && filepath.IsLocal(rel) {
			return filepath.Dir(x.Point)
		}
	}
	return ""
}

// Activate implements [mount.Manager].
func (m *Manager) Activate(ctx context.Context, name string, list []mount.Mount, opts mount.ActivateOptions) (mount.Activation, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return mount.Activation{}, err
	}
	if len(list) == 0 || len(list) > maxMounts {
		return mount.Activation{}, fmt.Errorf("mounts %q are %d, not 1 to %d: %w", name, len(list), maxMounts, errdefs.ErrInvalidArgument)
	}
	if _, err := m.store.Get(ctx, name); err == nil {
		return mount.Activation{}, fmt.Errorf("mounts %q are active: %w", name, errdefs.ErrAlreadyExists)
	}
	count := needed(list)
	if count == 0 && !opts.Temporary {
		return mount.Activation{}, fmt.Errorf("mounts %q: the system can make them all: %w", name, errdefs.ErrNotImplemented)
	}
	w := &work{name: name, folder: filepath.Join(m.dir, ns, strings.ToLower(rand.Text()[:16]))}
	a, err := w.make(list, count, opts.Temporary)
	if err == nil {
		a.Labels = opts.Labels
		err = m.store.Create(ctx, a)
	}
	if err != nil {
		return mount.Activation{}, errors.Join(fmt.Errorf("mounts %q: %w", name, err), undo(w.active), m.clear(w.folder))
	}
	return a, nil
}

// needed counts the mounts up to the last one that needs more than mount(2).
func needed(list []mount.Mount) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Type == "loop" || strings.Contains(list[i].Type, "/") {
			return i + 1
		}
	}
	return 0
}

// work is one activation being made.
type work struct {
	name, folder string
	active       []mount.Active
}

func (w *work) make(list []mount.Mount, count int, temporary bool) (mount.Activation, error) {
	a := mount.Activation{Name: w.name}
	for i, m := range list {
		if i >= count {
			a.System = append(a.System, m)
			continue
		}
		m, err := w.transform(m)
		if err != nil {
			return a, fmt.Errorf("mount %d: %w", i, err)
		}
		if i == count-1 && m.Type != "loop" {
			a.System = append(a.System, m) // only its words needed more
			continue
		}
		if err := w.mount(m); err != nil {
			return a, fmt.Errorf("mount %d: %w", i, err)
		}
	}
	if len(a.System) == 0 {
		last := w.active[len(w.active)-1]
		a.System = []mount.Mount{{Type: "bind", Source: last.Point, Options: []string{"bind"}}}
	}
	if temporary {
		if err := w.all(&a); err != nil {
			return a, err
		}
	}
	a.Active = w.active
	return a, nil
}

// mount makes one mount in a folder of its own.
func (w *work) mount(m mount.Mount) error {
	active := mount.Active{Mount: m, MountedAt: time.Now().UTC()}
	var err error
	if m.Type == "loop" {
		active.Point, err = attachLoop(m.Source, m.ReadOnly())
	} else {
		active.Point = filepath.Join(w.folder, strconv.Itoa(len(w.active)))
		if err = os.MkdirAll(active.Point, 0o700); err == nil {
			err = mounts.All([]mount.Mount{m}, active.Point)
		}
	}
	if err == nil {
		w.active = append(w.active, active)
	}
	return err
}

// all makes the system's mounts, too, and leaves a bind of them.
func (w *work) all(a *mount.Activation) error {
	point := filepath.Join(w.folder, "all")
	if err := os.MkdirAll(point, 0o700); err != nil {
		return err
	}
	if err := mounts.All(a.System, point); err != nil {
		return err
	}
	options := []string{"rbind"}
	if a.System[len(a.System)-1].ReadOnly() {
		options = append(options, "ro")
	}
	w.active = append(w.active, mount.Active{Mount: a.System[0], MountedAt: time.Now().UTC(), Point: point})
	a.System = []mount.Mount{{Type: "bind", Source: point, Options: options}}
	return nil
}

// undo takes mounts and loop devices away, the last first.
func undo(active []mount.Active) error {
	var errs []error
	for i := len(active) - 1; i >= 0; i-- {
		x := active[i]
		if x.Type == "loop" {
			if isLoop(x.Point, x.Source) {
				errs = append(errs, detachLoop(x.Point))
			}
			continue
		}
		errs = append(errs, mounts.UnmountAll(x.Point, true))
	}
	return errors.Join(errs...)
}

// clear removes a folder of mounts. Nothing below it is removed while something
// is mounted there.
func (m *Manager) clear(folder string) error {
	points, err := filepath.Glob(filepath.Join(folder, "*"))
	for _, p := range points {
		err = errors.Join(err, mounts.UnmountAll(p, true), os.Remove(p))
	}
	if err != nil {
		return err
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Dir(folder)) // of the namespace, if it is empty
	return nil
}

// Deactivate implements [mount.Manager].
func (m *Manager) Deactivate(ctx context.Context, name string) error {
	a, err := m.store.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := m.store.Delete(ctx, name); err != nil {
		return err
	}
	return m.Release(ctx, a)
}

// Release undoes the mounts of an activation whose record is gone.
func (m *Manager) Release(_ context.Context, a mount.Activation) error {
	err := undo(a.Active)
	if folder := m.folder(a); folder != "" && err == nil {
		err = m.clear(folder)
	}
	return err
}

// Info implements [mount.Manager].
func (m *Manager) Info(ctx context.Context, name string) (mount.Activation, error) {
	return m.store.Get(ctx, name)
}

// Update implements [mount.Manager].
func (m *Manager) Update(ctx context.Context, a mount.Activation, fieldpaths ...string) (mount.Activation, error) {
	return m.store.Update(ctx, a, fieldpaths...)
}

// List implements [mount.Manager].
func (m *Manager) List(ctx context.Context, filters ...string) ([]mount.Activation, error) {
	return m.store.List(ctx, filters...)
}
