package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/typeurl/v2"
	api "github.com/moby/moby/api/types/container"
	apinet "github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/container"
)

// extension is the name of the engine's part of a container's record.
const extension = "dev.orlop.engine.container"

// record is what is kept of a container beside its task and its tree.
type record struct {
	Name       string
	Config     *api.Config // the image's under the caller's
	HostConfig *api.HostConfig
	// ImageID is the digest the image's name pointed at.
	ImageID string
	// Manifest is that of the platform it was made for.
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Mounts are what is mounted into it.
	Mounts  []MountPoint
	State   State
	Restart restarts
	// Networks are how it would like to be connected, by network; nil is as its host
	// config says.
	Networks endpoints
}

// State is how a container's last run was or is.
type State struct {
	Running    bool
	Paused     bool
	Restarting bool // it waits to be started again
	OOMKilled  bool
	Removing   bool
	PID        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	// Health is nil if it is not checked; it is replaced, never changed.
	Health *api.Health `json:",omitempty"`
}

// Status is the state in one word, as clients know it.
func (s State) Status() string {
	switch {
	case s.Removing:
		return "removing"
	case s.Restarting:
		return "restarting"
	case s.Paused:
		return "paused"
	case s.Running:
		return "running"
	case s.StartedAt.IsZero():
		return "created"
	}
	return "exited"
}

// Container is a container of the engine.
type Container struct {
	// ID is 64 hexadecimal digits.
	ID string

	op sync.Mutex

	mu      sync.Mutex          // guards what follows
	stored  container.Container // without what is in rec; its spec is one that isn't saved yet
	made    *made               // nil: not known yet
	rec     record
	ended   chan struct{} // closed when the present run ends; nil if there is none
	waiters map[*Waiter]struct{}
	pending []*Attachment // wait for the start
	backoff chan struct{} // closed to end the pause before a restart; nil if there is none
	keep    bool          // it is stopped to be started: it does not remove itself
	owned   []string      // volumes that were made while it was
	purge   bool          // its anonymous volumes go with it
	unsaved bool          // the end of its run is still to be recorded
}

// raw is an extension as it is stored.
type raw struct {
	url   string
	value []byte
}

// GetTypeUrl implements [typeurl.Any].
func (a raw) GetTypeUrl() string { return a.url }

// GetValue implements [typeurl.Any].
func (a raw) GetValue() []byte { return a.value }

// loadContainer reads a record; nil if it is not one of the engine's.
func loadContainer(stored container.Container) (*Container, error) {
	ext, ok := stored.Extensions[extension]
	if !ok {
		return nil, nil
	}
	c := &Container{ID: stored.ID, stored: kept(stored), waiters: map[*Waiter]struct{}{}}
	if err := json.Unmarshal(ext.GetValue(), &c.rec); err != nil {
		return nil, fmt.Errorf("extension: %w", err)
	}
	if c.rec.Mounts == nil && c.rec.HostConfig != nil { // of a version that kept none: it had no volumes
		c.rec.Mounts, _ = mountsOf(c.rec.HostConfig)
	}
	if c.rec.Config == nil || c.rec.HostConfig == nil || c.rec.Name == "" {
		return nil, fmt.Errorf("extension: it has no name or no config")
	}
	return c, nil
}

// encode puts what the engine knows into the record. Called with mu held.
func (c *Container) encode() (container.Container, error) {
	rec := c.rec
	rec.State.PID, rec.State.Removing = 0, false
	data, err := json.Marshal(rec)
	if err != nil {
		return c.stored, err
	}
	out := c.stored
	out.Extensions = map[string]typeurl.Any{extension: raw{extension, data}}
	for k, v := range c.stored.Extensions {
		if k != extension {
			out.Extensions[k] = v
		}
	}
	return out, nil
}

// kept is what is kept in memory of a record: neither the spec, of which [made] has what
// is needed, nor what the engine has put into it itself.
func kept(stored container.Container) container.Container {
	stored.Spec = nil
	if _, ok := stored.Extensions[extension]; ok {
		stored.Extensions = maps.Clone(stored.Extensions)
		delete(stored.Extensions, extension)
	}
	return stored
}

// save writes the record. Called with op held, so that writes keep their order.
func (e *Engine) save(ctx context.Context, c *Container) error {
	c.mu.Lock()
	out, err := c.encode()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	fields := []string{"labels", "image", "snapshotkey", "extensions"}
	if out.Spec != nil {
		fields = append(fields, "spec")
	}
	saved, err := e.Containers.Update(ctx, out, fields...)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	c.mu.Lock()
	c.stored = kept(saved)
	c.mu.Unlock()
	return nil
}

// View is a container as it is at one moment. What it points at is not changed.
type View struct {
	ID         string
	Name       string
	Created    time.Time
	ImageID    string
	Manifest   *ocispec.Descriptor
	Config     *api.Config
	HostConfig *api.HostConfig
	State      State
	// Restarts is how often it was started again.
	Restarts int
	// Mounts are what is mounted into it.
	Mounts []MountPoint
	// Snapshotter keeps its tree, under Snapshot.
	Snapshotter, Snapshot string
	// LogPath is its log, "" if there is none that can be read. Only [Engine.Inspect]
	// tells, as well as ExecIDs.
	LogPath string
	// Folder holds its files.
	Folder string
	// ExecIDs are its execs that run.
	ExecIDs []string
	// Networks are its connections, and Ports what it publishes.
	Networks endpoints
	Ports    apinet.PortMap
	// SandboxKey is the path of its network namespace, "" if it has none of ours.
	SandboxKey string
	// LinkedAs are the names that others' links give it: the other's name, a slash and
	// the link's.
	LinkedAs []string
	// MAC is the hardware address that was asked for at the first network.
	MAC apinet.HardwareAddr
}

func (e *Engine) view(c *Container) View {
	c.mu.Lock()
	v := View{ID: c.ID, Name: c.rec.Name, Created: c.stored.Created, ImageID: c.rec.ImageID, Manifest: c.rec.Manifest, Config: c.rec.Config,
		HostConfig: c.rec.HostConfig, State: c.rec.State, Restarts: c.rec.Restart.Count, Snapshotter: c.stored.Snapshotter, Snapshot: c.stored.SnapshotKey,
		Folder: e.folder(c.ID), Mounts: c.rec.Mounts}
	settings := c.rec.Networks
	c.mu.Unlock()
	e.showNetworks(&v, settings)
	return v
}

// state returns how the container is.
func (c *Container) state() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.State
}

// running tells whether it runs, and gives what is closed at the end.
func (c *Container) running() (ended <-chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.rec.State.Running
}

// name is its present name.
func (c *Container) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Name
}

// config returns its config; a config is replaced, never changed.
func (c *Container) config() (*api.Config, *api.HostConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Config, c.rec.HostConfig
}

// lookup resolves an ID, a name or the beginning of an ID.
func (e *Engine) lookup(ref string) (*Container, error) {
	name := strings.TrimPrefix(ref, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.byID[name]; c != nil {
		return c, nil
	}
	if c := e.byName[name]; c != nil {
		return c, nil
	}
	var found *Container
	for id, c := range e.byID {
		if name == "" || !strings.HasPrefix(id, name) {
			continue
		}
		if found != nil {
			return nil, invalid("multiple IDs found with provided prefix: %s", name)
		}
		found = c
	}
	if found == nil {
		return nil, notFound("No such container: %s", name)
	}
	return found, nil
}

// Inspect returns a container by ID, name or the beginning of its ID.
func (e *Engine) Inspect(ref string) (View, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return View{}, err
	}
	v := e.view(c)
	if readable(&v.HostConfig.LogConfig) {
		v.LogPath = e.logPath(c.ID)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, x := range e.execs {
		if x.c == c && x.isRunning() {
			v.ExecIDs = append(v.ExecIDs, id)
		}
	}
	slices.Sort(v.ExecIDs)
	return v, nil
}

// all returns the containers, the newest first.
func (e *Engine) all() []View { return e.some(func(State) bool { return true }) }

// some returns the containers whose state is asked for, the newest first.
func (e *Engine) some(keep func(State) bool) []View {
	type item struct {
		c    *Container
		born time.Time
	}
	e.mu.Lock()
	list := make([]item, 0, len(e.byID))
	for _, c := range e.byID {
		list = append(list, item{c: c})
	}
	e.mu.Unlock()
	list = slices.DeleteFunc(list, func(i item) bool { return !keep(i.c.state()) })
	for i := range list {
		list[i].born = list[i].c.born()
	}
	slices.SortFunc(list, func(a, b item) int {
		if d := b.born.Compare(a.born); d != 0 {
			return d
		}
		return strings.Compare(a.c.ID, b.c.ID)
	})
	out := make([]View, len(list))
	for i, x := range list {
		out[i] = e.view(x.c)
	}
	return out
}
