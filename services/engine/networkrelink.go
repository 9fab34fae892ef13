package engine

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/log"

	networks "github.com/orlop/orlop/services/network"
)

// relink renews the links of others to a container that has started or was connected to
// a network: it may have another address, or be another container of that name.
func (e *Engine) relink(ctx context.Context, c *Container) {
	for _, p := range e.everyone() {
		if p == c || !p.state().Running {
			continue
		}
		if err := errors.Join(e.relinkBridge(ctx, p, c), e.relinkNames(p, c)); err != nil {
			log.G(ctx).WithError(err).Warnf("links of container %s", p.ID)
		}
	}
}

// everyone are all containers.
func (e *Engine) everyone() []*Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.byID))
}

// leadsTo tells whether a link's target is a container, and under which name.
func (e *Engine) leadsTo(text string, c *Container) (alias string, ok bool) {
	target, alias := SplitLink(text)
	other, err := e.lookup(target)
	return alias, err == nil && other == c
}

// relinkBridge renews the links of one container to another on the default bridge: the
// lines of /etc/hosts, and the ways where its containers don't reach each other.
func (e *Engine) relinkBridge(ctx context.Context, p, c *Container) error {
	_, h := p.config()
	a := e.bridgeAddress(c.ID)
	if !a.IsValid() || networkName(h.NetworkMode) != networks.Bridge {
		return nil
	}
	var errs []error
	for _, text := range h.Links {
		if alias, ok := e.leadsTo(text, c); ok {
			errs = append(errs, e.setHost(p.ID, alias, (&link{alias: alias, other: c, address: a}).line()), e.openLinks(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// relinkNames renews the names by which one container alone knows another on networks of
// people's own.
func (e *Engine) relinkNames(p, c *Container) error {
	var errs []error
	for network, s := range p.networks() {
		for _, text := range s.Links {
			if alias, ok := e.leadsTo(text, c); ok {
				errs = append(errs, e.Networks.Alias(p.ID, network, strings.ToLower(alias), short(c.ID)))
			}
		}
	}
	return errors.Join(errs...)
}

// setHost changes the line of a link in a container's /etc/hosts, or adds it; an empty one
// takes it away.
func (e *Engine) setHost(id, alias, now string) error {
	e.hosts.Lock()
	defer e.hosts.Unlock()
	path := filepath.Join(e.folder(id), hostsFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(string(data)))
	at := -1
	for i, line := range lines { // the last: --add-host may name another so, before it
		if f := strings.Fields(line); len(f) > 1 && f[1] == alias {
			at = i
		}
	}
	if at < 0 {
		lines = append(lines, now)
	} else {
		lines[at] = now
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
}

// renameLinks has the links of others follow a container to its new name.
func (e *Engine) renameLinks(ctx context.Context, c *Container, old, name string) {
	renamed := func(links []string) []string {
		links = slices.Clone(links)
		for i, text := range links {
			if target, alias := SplitLink(text); target == old {
				links[i] = name + ":" + alias
			}
		}
		return links
	}
	for _, p := range e.everyone() {
		p.mu.Lock()
		h, settings := *p.rec.HostConfig, maps.Clone(p.rec.Networks)
		h.Links = renamed(h.Links)
		changed := !slices.Equal(h.Links, p.rec.HostConfig.Links)
		for network, s := range settings {
			if links := renamed(s.Links); !slices.Equal(links, s.Links) {
				x := configOf(s)
				x.Links, settings[network], changed = links, x, true
			}
		}
		if changed {
			p.rec.HostConfig, p.rec.Networks = &h, settings
		}
		p.mu.Unlock()
		if changed {
			if err := e.save(ctx, p); err != nil {
				log.G(ctx).WithError(err).Warnf("links of container %s to %s", p.ID, c.ID)
			}
		}
	}
}

// Unlink takes away a link on the default bridge by its alias. One that runs loses the name
// and the way at once; its environment stays as it was.
func (e *Engine) Unlink(ctx context.Context, ref, alias string) error {
	ctx = e.detached(ctx)
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	h := *c.rec.HostConfig
	i := slices.IndexFunc(h.Links, func(text string) bool { _, a := SplitLink(text); return a == alias })
	if i < 0 {
		c.mu.Unlock()
		return notFound("container %s has no link %s", ref, alias)
	}
	h.Links = slices.Delete(slices.Clone(h.Links), i, i+1)
	c.rec.HostConfig = &h
	running := c.rec.State.Running
	c.mu.Unlock()
	errs := []error{e.save(ctx, c)}
	if running {
		errs = append(errs, e.setHost(c.ID, alias, ""), e.openLinks(ctx, c))
	}
	return errors.Join(errs...)
}
