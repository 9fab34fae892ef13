package macvlan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/rtnl"
)

// prefixes begin the names of parents that are ours, as the Engine has them.
var prefixes = map[Kind]string{Macvlan: "dm-", Ipvlan: "di-"}

// parentOf is the name of a network's parent: the one that was named, or ours.
func (d *Driver) parentOf(n *network.Network) string {
	if n.Options.Parent != "" {
		return n.Options.Parent
	}
	return prefixes[d.config.Kind] + n.ID[:12]
}

// alias marks a parent as ours.
func (d *Driver) alias(id string) string {
	return d.config.Mark + "-" + string(d.config.Kind) + ":" + id
}

// makeParent makes a parent that leads nowhere.
func (d *Driver) makeParent(n *network.Network) error {
	name, alias := d.parentOf(n), d.alias(n.ID)
	switch l, err := d.rt.Link(name); {
	case err == nil && l.Alias == alias:
		return d.rt.Do(rtnl.SetLink(rtnl.Link{Name: name, Up: true}))
	case err == nil:
		return fmt.Errorf("interface %s belongs to somebody else: %w", name, errdefs.ErrAlreadyExists)
	case !errdefs.IsNotFound(err):
		return err
	}
	marked := rtnl.Link{Name: name, Alias: alias, Up: true}
	err := d.rt.Do(rtnl.NewLink(rtnl.Link{Name: name, Kind: "dummy", MTU: n.Options.MTU}))
	if errdefs.IsNotImplemented(err) { // the kernel has no such: a wire with nobody at its other end
		other := "p" + name[1:]
		err = d.rt.Do(rtnl.NewLink(rtnl.Link{Name: name, Kind: "veth", MTU: n.Options.MTU, Peer: &rtnl.Link{Name: other, MTU: n.Options.MTU}}))
		if err == nil {
			err = d.rt.Do(rtnl.SetLink(rtnl.Link{Name: other, Alias: alias, Up: true}))
		}
	}
	if err == nil {
		err = d.rt.Do(rtnl.SetLink(marked))
	}
	if err != nil {
		return errors.Join(err, d.rt.Do(rtnl.DelLink(name)))
	}
	return nil
}

// removeParent removes a network's parent if it is ours.
func (d *Driver) removeParent(n *network.Network) error {
	name := d.parentOf(n)
	if l, err := d.rt.Link(name); err != nil || l.Alias != d.alias(n.ID) {
		return nil
	}
	return d.rt.Do(rtnl.DelLink(name))
}

// sweep removes parents of ours whose network isn't recorded.
func (d *Driver) sweep(networks []network.Network) error {
	links, err := d.rt.Links()
	if err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, n := range networks {
		recorded[d.alias(n.ID)] = true
	}
	var remove []rtnl.Message
	for _, l := range links {
		if strings.HasPrefix(l.Alias, d.alias("")) && !recorded[l.Alias] {
			remove = append(remove, rtnl.DelLink(l.Name))
		}
	}
	return d.rt.Do(remove...)
}
