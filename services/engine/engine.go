// Package engine is the use-cases of a container engine in the shape that people
// know from Docker: containers with names and a last state, that are made of
// images, started, attached to, logged and removed.
//
// # Who keeps what
//
// A container is a record in the metadata store, in the namespace "default", so
// that every other door sees it. Its name, config and last state are an extension
// of the record. The engine keeps in memory only what it can find again: at the
// start it reads the records and asks the task manager which of them run. Files of a
// container (its log, hosts, resolv.conf) are in a folder of its own, which is
// swept if its record is gone.
//
// # A container's run
//
// Start records that the container runs, makes the task, connects who is attached,
// and starts it; a monitor waits for the end, records it and deletes the task. A
// daemon that is killed in between finds at the next start either a running task,
// which is monitored, an ended one, whose exit code is recorded then, or none: then
// the code is 255. The shim writes the log, so nothing is lost meanwhile.
//
// # Locks
//
// Container.op is held while a container is started, finished or removed; Engine.mu
// guards the index, Container.mu a container's state. They are taken in that order;
// nothing is waited for under the last two.
package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sync/errgroup"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/services/volume"
	"github.com/orlop/orlop/shims/manager"
	"github.com/orlop/orlop/snapshotters"
)

// Parts are what the engine works with.
type Parts struct {
	Containers container.Store
	Images     image.Store
	Content    content.Store
	Leases     lease.Manager
	Bus        event.Subscriber
	Tasks      *manager.Manager
	Unpack     *unpack.Unpacker
	Transfer   *transfer.Service
	Archive    *archive.Archiver
	Volumes    *volume.Service
	// Snapshots finds a snapshotter, Snapshotter names the one for new containers.
	Snapshots   func(name string) (snapshotters.Snapshotter, error)
	Snapshotter func(ctx context.Context) string
	// Networks is nil where there is none.
	Networks Networks
	Config   Config
	// Rootless tells that the daemon is an ordinary user's, Unlimited that there are no
	// control groups for it.
	Rootless, Unlimited bool
}

// Where says where the engine keeps files.
type Where struct {
	Root    string // logs and other files of containers, for good
	State   string // fifos, until a reboot
	Sockets string // sockets to attach at; its path must be short
}

// Engine is the engine. It is safe for concurrent use.
type Engine struct {
	Parts
	at Where

	life     context.Context // ends with the engine; has the namespace
	stop     context.CancelFunc
	work     sync.WaitGroup
	events   *journal
	accounts keptAccounts

	hosts  sync.Mutex // held while somebody's /etc/hosts is changed
	mu     sync.Mutex // guards what follows
	byID   map[string]*Container
	byName map[string]*Container
	execs  map[string]*execution
	open   bool // the containers of an earlier run were found

	users *userns.Maps // of containers, nil for the host's

	opened  time.Time // when the engine was opened
	probing chan struct{}
}

// loads is how many containers are asked for at once at the start.
const loads = 16

// Open finds the containers of an earlier run.
func Open(ctx context.Context, at Where, parts Parts) (*Engine, error) {
	e := &Engine{Parts: parts, at: at, events: newJournal(), opened: now(), probing: make(chan struct{}, probes),
		byID: map[string]*Container{}, byName: map[string]*Container{}, execs: map[string]*execution{}}
	var err error
	if e.users, err = readMaps(parts.Config.UsernsRemap); err != nil {
		return nil, err
	}
	e.life, e.stop = context.WithCancel(namespaces.With(context.WithoutCancel(ctx), namespaces.Default))
	for _, dir := range []string{e.folder(""), at.State, at.Sockets} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	parts.Volumes.Notify = e.volumeNews
	e.hearNetworks()
	if err := e.load(e.in(ctx)); err != nil {
		e.stop()
		return nil, err
	}
	e.mu.Lock()
	e.open = true
	e.mu.Unlock()
	e.work.Go(e.listen)
	e.work.Go(e.revive)
	return e, nil
}

// isOpen tells whether all containers are known: before, none is started again.
func (e *Engine) isOpen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open
}

// Close lets go of containers; they go on.
func (e *Engine) Close() error {
	e.stop()
	e.events.close()
	e.work.Wait()
	return nil
}

// in puts the engine's namespace into a context.
func (e *Engine) in(ctx context.Context) context.Context {
	return namespaces.With(ctx, namespaces.Default)
}

// detached is a context for what must be finished though the client is gone.
func (e *Engine) detached(ctx context.Context) context.Context {
	return e.in(context.WithoutCancel(ctx))
}

// folder is where a container's files are.
func (e *Engine) folder(id string) string { return filepath.Join(e.at.Root, "containers", id) }

// load reads the records and finds out what runs.
func (e *Engine) load(ctx context.Context) error {
	all, err := e.Containers.List(ctx)
	if err != nil {
		return err
	}
	var found []*Container
	for _, stored := range all {
		c, err := loadContainer(stored)
		if err != nil {
			log.G(ctx).WithError(err).Warnf("container %s can't be read", stored.ID)
			continue
		}
		if c == nil {
			continue // another door's
		}
		if err := e.index(c); err != nil {
			log.G(ctx).WithError(err).Warnf("container %s", stored.ID)
			continue
		}
		e.holdVolumes(c)
		found = append(found, c)
	}
	var g errgroup.Group
	g.SetLimit(loads)
	for _, c := range found {
		g.Go(func() error { e.find(ctx, c); return nil })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	e.keepNetworks(ctx)
	if err := e.settleVolumes(ctx, found); err != nil {
		log.G(ctx).WithError(err).Warn("some volumes stay mounted until the next start")
	}
	return e.sweep()
}

// sweep removes the files of containers whose removal was cut off.
func (e *Engine) sweep() error {
	for _, dir := range []string{e.folder(""), e.at.State} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if e.byID[entry.Name()] != nil {
				continue
			}
			e.dropShm(&Container{ID: entry.Name()})
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// index makes a container known by its ID and name.
func (e *Engine) index(c *Container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other := e.byName[c.rec.Name]; other != nil {
		return conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
			"/"+c.rec.Name, other.ID)
	}
	e.byID[c.ID], e.byName[c.rec.Name] = c, c
	return nil
}

func (e *Engine) unindex(c *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byID[c.ID] == c {
		delete(e.byID, c.ID)
	}
	if e.byName[c.rec.Name] == c {
		delete(e.byName, c.rec.Name)
	}
	for id, x := range e.execs {
		if x.c == c {
			delete(e.execs, id)
		}
	}
}

// now is the time as it is kept: in UTC, without the monotonic clock.
func now() time.Time { return time.Now().UTC().Round(0) }
