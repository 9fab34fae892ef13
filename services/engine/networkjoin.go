package engine

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	apinet "github.com/moby/moby/api/types/network"

	networks "github.com/orlop/orlop/services/network"
)

// Connect connects a container to one more network: at once if it runs, else when
// it starts.
func (e *Engine) Connect(ctx context.Context, ref, network string, given *apinet.EndpointSettings) error {
	c, r, err := e.pair(ref, network)
	if err != nil {
		return err
	}
	if given == nil {
		given = &apinet.EndpointSettings{}
	}
	settings := configOf(given)
	settings.NetworkID = r.ID
	if err := checkEndpoint(r.Name, settings); err != nil {
		return err
	}
	ctx = e.detached(ctx)
	c.op.Lock()
	defer c.op.Unlock()
	_, h := c.config()
	s := c.state()
	switch {
	case h.NetworkMode.IsHost(), h.NetworkMode.IsContainer():
		return denied("container sharing network namespace with another container or host cannot be connected to any other network")
	case r.Name == networks.Host, r.Name == networks.None:
		return denied("container cannot be connected to the network %s: it was not made with that mode", r.Name)
	case s.Removing:
		return conflict("container %s is marked for removal and cannot be connected or disconnected to the network", c.ID)
	case h.NetworkMode.IsNone():
		return denied("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	if have := c.networks(); have[r.Name] != nil {
		return denied("endpoint with name %s already exists in network %s", c.name(), r.Name)
	}
	if s.Running {
		err = e.joinRunning(ctx, c, r, settings)
	} else {
		err = e.checkJoin(c, r, settings)
	}
	if err != nil {
		return err
	}
	return e.keepEndpoints(ctx, c, func(all endpoints) {
		all[r.Name] = settings
	})
}

// checkJoin tells what would keep a container from being connected when it starts.
func (e *Engine) checkJoin(c *Container, r networks.Record, settings *apinet.EndpointSettings) error {
	w, err := e.wish(c.ID, r.ID, settings)
	if err != nil {
		return err
	}
	return w.Check(&r)
}

// joinRunning connects a container that runs.
func (e *Engine) joinRunning(ctx context.Context, c *Container, r networks.Record, settings *apinet.EndpointSettings) error {
	w, err := e.wish(c.ID, r.ID, settings)
	if err != nil {
		return err
	}
	config, _ := c.config()
	w.Names = dnsNames(c.ID, c.name(), config.Hostname, settings.Aliases)
	before := e.box(c.ID)
	after, err := e.Networks.Join(ctx, c.ID, w)
	if err != nil {
		return err
	}
	if err := e.rehost(c, before, after); err != nil {
		return err
	}
	if r.Name == networks.Bridge {
		if err := e.openLinks(ctx, c); err != nil {
			return err
		}
	}
	e.relink(ctx, c)
	return nil
}

// Disconnect disconnects a container from a network; with force also one that is
// known to the network alone.
func (e *Engine) Disconnect(ctx context.Context, ref, network string, force bool) error {
	c, r, err := e.pair(ref, network)
	if errdefs.IsNotFound(err) && force && c == nil && r.ID != "" {
		return e.expel(ctx, r, ref)
	}
	if err != nil {
		return err
	}
	ctx = e.detached(ctx)
	c.op.Lock()
	defer c.op.Unlock()
	_, h := c.config()
	if r.Name == networks.Host && h.NetworkMode.IsHost() {
		return denied("container cannot be disconnected from host network - container was created in host network mode")
	}
	if c.networks()[r.Name] == nil {
		return denied("container %s is not connected to network %s", c.ID, r.Name)
	}
	if c.state().Running && !alone(h.NetworkMode) {
		before := e.box(c.ID)
		after, err := e.Networks.Part(ctx, c.ID, r.ID)
		if err == nil {
			err = e.rehost(c, before, after)
		}
		if err != nil {
			return err
		}
	}
	return e.keepEndpoints(ctx, c, func(all endpoints) { delete(all, r.Name) })
}

// expel disconnects what has no container any more.
func (e *Engine) expel(ctx context.Context, r networks.Record, ref string) error {
	for id := range e.Networks.Connected(r.ID) {
		if box, ok := e.Networks.Sandbox(id); ok && (id == ref || box.Name == ref || strings.HasPrefix(id, ref)) {
			_, err := e.Networks.Part(e.detached(ctx), id, r.ID)
			return err
		}
	}
	return denied("container %s is not connected to network %s", ref, r.Name)
}

// pair finds a container and a network.
func (e *Engine) pair(ref, network string) (*Container, networks.Record, error) {
	if e.Networks == nil {
		return nil, networks.Record{}, missing("networks are not available: their plugin is off")
	}
	r, err := e.Networks.Find(network)
	if err != nil {
		return nil, r, err
	}
	c, err := e.lookup(ref)
	return c, r, err
}

// networks are the networks of a container as they were asked for.
func (c *Container) networks() endpoints {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Networks
}

// keepEndpoints changes the record of how a container would like to be connected.
// Called with op held.
func (e *Engine) keepEndpoints(ctx context.Context, c *Container, change func(endpoints)) error {
	c.mu.Lock()
	old := c.rec.Networks
	all := maps.Clone(old)
	if all == nil {
		all = endpoints{}
	}
	change(all)
	c.rec.Networks = all
	c.mu.Unlock()
	if err := e.save(ctx, c); err != nil {
		c.mu.Lock()
		c.rec.Networks = old
		c.mu.Unlock()
		return err
	}
	return nil
}

// PruneNetworks removes networks that no container is connected to.
func (e *Engine) PruneNetworks(ctx context.Context, f Filters) ([]string, error) {
	if e.Networks == nil {
		return nil, missing("networks are not available: their plugin is off")
	}
	if err := f.Known("label", "label!", "until"); err != nil {
		return nil, err
	}
	until, err := f.until()
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, r := range e.Networks.Unused() {
		if !f.labels(r.Labels) || !until.IsZero() && !r.Created.Before(until) {
			continue
		}
		if err := e.Networks.Remove(ctx, r.ID); err != nil {
			if errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) {
				continue // somebody was faster
			}
			return names, err
		}
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names, nil
}

// FitNetworks are the networks that fit filters.
func FitNetworks(n Networks, f Filters) ([]networks.Record, error) {
	if err := f.Known("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "custom" && t != "builtin" {
			return nil, invalid("invalid filter: 'type'='%s'", t)
		}
	}
	unused := map[string]bool{}
	for _, r := range n.Unused() {
		unused[r.ID] = true
	}
	return slices.DeleteFunc(n.List(), func(r networks.Record) bool {
		kind := "custom"
		if r.Predefined {
			kind = "builtin"
		}
		driver := r.Driver
		if driver == networks.None {
			driver = "null"
		}
		return given && unused[r.ID] != dangling || !f.is("driver", driver) || !f.is("scope", "local") || !f.is("type", kind) ||
			!f.labels(r.Labels) || !f.matches("name", r.Name) || !f.matches("id", r.ID)
	}), nil
}

// JoinNetwork is [Engine.Connect] for those who say nothing but more names.
func (e *Engine) JoinNetwork(ctx context.Context, ref, network string, aliases []string) error {
	return e.Connect(ctx, ref, network, &apinet.EndpointSettings{Aliases: aliases})
}
