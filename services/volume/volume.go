// Package volume is the use-cases of volumes: making, finding, using, filling and
// removing them, and asking what they take.
//
// # Who keeps what
//
// A volume is a record in the metadata store and, under the same name, what its
// driver keeps. The record makes it a volume: its driver's part is on disk before,
// and is put out of the way before the record goes. So after a crash, an empty
// folder without a record was not finished and is removed, a record whose folder was
// put out of the way goes, too, and a folder with files but without a record (of a
// restored disk, say) is taken up as a volume: files of users are never removed
// unasked.
//
// # Who uses it
//
// Holders are containers that name a volume, running or not: it can't be removed
// meanwhile. Users are those that run: while there is one, the volume is mounted,
// if its options want that. Both are kept in memory; who owns the containers tells
// them again at the start, then calls [Service.Settle], which unmounts the rest.
//
// # Concurrency
//
// All methods are safe for concurrent use. A volume's stripe is held while its
// driver works; mu guards the maps and is the inner one. Nobody holds two stripes.
package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/volume"
)

// AnonymousLabel marks volumes that got their name from us, as Docker marks them.
const AnonymousLabel = "com.docker.volume.anonymous"

// Request is a volume to make or to find.
type Request struct {
	// Name is its name; empty makes an anonymous volume.
	Name string
	// Driver is that of a new volume, "" the local one; an existing volume of
	// another driver is a conflict.
	Driver  string
	Options map[string]string
	Labels  map[string]string
}

// Service keeps volumes.
type Service struct {
	store   volume.Store
	drivers map[string]Driver
	// Notify, where set before the first call, is told what happened: "create" or
	// "destroy".
	Notify func(action string, v volume.Volume)

	seed    maphash.Seed
	stripes [64]sync.Mutex

	mu      sync.Mutex // guards what follows
	holders map[string]map[string]bool
	users   map[string]map[string]bool
}

// Open compares records with what drivers have, and mends it.
func Open(ctx context.Context, store volume.Store, drivers map[string]Driver) (*Service, error) {
	s := &Service{store: store, drivers: drivers, seed: maphash.MakeSeed(),
		holders: map[string]map[string]bool{}, users: map[string]map[string]bool{}}
	ctx = s.in(ctx)
	recorded, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	for name, d := range drivers {
		if err := s.mend(ctx, name, d, recorded); err != nil {
			return nil, fmt.Errorf("volumes of driver %s: %w", name, err)
		}
	}
	return s, nil
}

func (s *Service) in(ctx context.Context) context.Context {
	return namespaces.With(ctx, namespaces.Default)
}

// mend finishes what a crash has cut off.
func (s *Service) mend(ctx context.Context, driver string, d Driver, recorded []volume.Volume) error {
	found, err := d.Found()
	if err != nil {
		return err
	}
	for _, v := range recorded {
		if v.Driver != driver {
			continue
		}
		content, ok := found[v.Name]
		delete(found, v.Name)
		switch {
		case !ok: // its disk may just not be there today
			log.G(ctx).Warnf("volume %s has lost its folder", v.Name)
		case content.Removed:
			if err := s.store.Delete(ctx, v.Name); err != nil {
				return err
			}
		}
	}
	for name, content := range found {
		v := volume.Volume{Name: name, Driver: driver, Created: now()}
		switch {
		case content.Removed:
		case content.Empty:
			err = d.Remove(ctx, v)
		default:
			log.G(ctx).Warnf("the folder of volume %s has files and no record: it is taken up", name)
			err = s.store.Create(ctx, v)
		}
		if err != nil {
			return err
		}
	}
	return d.Discard(ctx)
}

func now() time.Time { return time.Now().UTC().Round(0) }

// lock holds a volume; call the result when done.
func (s *Service) lock(name string) (unlock func()) {
	m := &s.stripes[maphash.String(s.seed, name)%uint64(len(s.stripes))]
	m.Lock()
	return m.Unlock
}

// newName is an anonymous volume's name.
func newName() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// Create makes a volume, or finds the one of that name. A holder, if there is one,
// holds it from now on.
func (s *Service) Create(ctx context.Context, r Request, holder string) (v volume.Volume, created bool, err error) {
	ctx = s.in(ctx)
	anonymous := r.Name == ""
	if anonymous {
		r.Name = newName()
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[AnonymousLabel] = ""
	}
	if err := volume.ValidateName(r.Name); err != nil {
		return v, false, &opError{"create " + r.Name, err}
	}
	defer s.lock(r.Name)()
	v, err = s.store.Get(ctx, r.Name)
	switch {
	case err == nil:
		err = fits(v, r)
	case errdefs.IsNotFound(err):
		_, anonymous = r.Labels[AnonymousLabel]
		v = volume.Volume{Name: r.Name, Driver: r.Driver, Options: r.Options, Labels: r.Labels, Anonymous: anonymous, Created: now()}
		v, err = s.make(ctx, v)
		created = err == nil
	}
	if err != nil {
		return v, false, &opError{"create " + r.Name, err}
	}
	s.enter(s.holders, v.Name, holder)
	if created && s.Notify != nil {
		s.Notify("create", v)
	}
	return v, created, nil
}

// fits tells whether a volume is the one asked for.
func fits(v volume.Volume, r Request) error {
	if r.Driver != "" && r.Driver != v.Driver {
		return conflict("driver '%s' already has volume '%s': volume name must be unique", v.Driver, v.Name)
	}
	if len(r.Options) > 0 && !maps.Equal(r.Options, v.Options) {
		return conflict("volume '%s' exists with other options: volume name must be unique", v.Name)
	}
	return nil
}

func (s *Service) make(ctx context.Context, v volume.Volume) (volume.Volume, error) {
	if v.Driver == "" {
		v.Driver = volume.Local
	}
	d, err := s.driver(v.Driver)
	if err != nil {
		return v, err
	}
	if err := d.Valid(v.Options); err != nil {
		return v, err
	}
	if err := d.Make(ctx, v); err != nil {
		return v, err
	}
	if err := s.store.Create(ctx, v); err != nil {
		return v, errors.Join(err, d.Remove(context.WithoutCancel(ctx), v))
	}
	return v, nil
}

func (s *Service) driver(name string) (Driver, error) {
	d, ok := s.drivers[name]
	if !ok {
		return nil, notFound("error looking up volume plugin %s: plugin %q not found", name, name)
	}
	return d, nil
}

// Get returns a volume.
func (s *Service) Get(ctx context.Context, name string) (volume.Volume, error) {
	v, err := s.store.Get(s.in(ctx), name)
	if errdefs.IsNotFound(err) {
		return v, &opError{"get " + name, notFound("no such volume")}
	}
	return v, err
}

// List returns all volumes, sorted by name.
func (s *Service) List(ctx context.Context) ([]volume.Volume, error) { return s.store.List(s.in(ctx)) }

// Path is where a volume's files are, or are mounted while somebody uses it.
func (s *Service) Path(v volume.Volume) string {
	d, err := s.driver(v.Driver)
	if err != nil {
		return ""
	}
	return d.Path(v.Name)
}

// Usage is what a volume's files take, in bytes.
func (s *Service) Usage(ctx context.Context, v volume.Volume) (int64, error) {
	d, err := s.driver(v.Driver)
	if err != nil {
		return 0, err
	}
	return d.Usage(ctx, v.Name)
}

// Remove removes a volume that nobody holds.
func (s *Service) Remove(ctx context.Context, name string) error {
	ctx = s.in(context.WithoutCancel(ctx))
	v, err := s.remove(ctx, name)
	if err != nil {
		return err
	}
	d, err := s.driver(v.Driver)
	if err != nil {
		return err
	}
	if err := d.Discard(ctx); err != nil {
		log.G(ctx).WithError(err).Warnf("the files of volume %s are removed at the next start", name)
	}
	if s.Notify != nil {
		s.Notify("destroy", v)
	}
	return nil
}

func (s *Service) remove(ctx context.Context, name string) (volume.Volume, error) {
	defer s.lock(name)()
	v, err := s.Get(ctx, name)
	if err != nil {
		return v, err
	}
	if holders := s.Holders(name); len(holders) > 0 {
		return v, &opError{"remove " + name, conflict("volume is in use - [%s]", strings.Join(holders, ", "))}
	}
	d, err := s.driver(v.Driver)
	if err != nil {
		return v, err
	}
	if err := errors.Join(d.Unmount(ctx, v), d.Remove(ctx, v)); err != nil {
		return v, &opError{"remove " + name, err}
	}
	return v, s.store.Delete(ctx, name)
}

// Prune removes volumes that nobody holds and that fit, and returns their names and
// what they took, in bytes.
func (s *Service) Prune(ctx context.Context, fits func(volume.Volume) bool) (names []string, freed int64, err error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	names = []string{}
	for _, v := range all {
		if !fits(v) || len(s.Holders(v.Name)) > 0 {
			continue
		}
		size, err := s.Usage(ctx, v)
		if err != nil {
			log.G(ctx).WithError(err).Warnf("usage of volume %s", v.Name)
		}
		err = s.Remove(ctx, v.Name)
		switch {
		case errdefs.IsConflict(err), errdefs.IsNotFound(err):
			continue // it has found a holder, or another remover
		case err != nil:
			return names, freed, err
		}
		names, freed = append(names, v.Name), freed+size
	}
	return names, freed, nil
}

// Holders are who holds a volume, sorted.
func (s *Service) Holders(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.holders[name]))
}
