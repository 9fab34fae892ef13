package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

// A configuration is a network that nobody connects to: others take its subnets,
// options and labels. Its subnets are taken by those that use it, not by itself.

// draftConfiguration completes the record of a configuration.
func draftConfiguration(r *port.Record, c *Creation) error {
	switch {
	case c.Driver != "" && c.Driver != "bridge" && c.Driver != "null" && c.Driver != None: // clients name the first if nobody names one
		return refuse(errdefs.ErrPermissionDenied, "configuration network can only contain network specific fields. Network operator fields like driver %s are not supported", c.Driver)
	case c.Attachable || c.Internal:
		return refuse(errdefs.ErrPermissionDenied, "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported")
	case c.ConfigFrom != "":
		return refuse(errdefs.ErrPermissionDenied, "a configuration network cannot depend on another configuration network")
	}
	r.Driver, r.ConfigOnly, r.Pools = None, true, nil
	for _, p := range c.Pools {
		if p.Subnet.IsValid() && (p.Subnet.Addr().Is6() && r.IPv6 || p.Subnet.Addr().Is4() && r.IPv4) {
			r.Pools = append(r.Pools, p)
		}
	}
	return nil
}

// applyConfiguration takes what a configuration says into what is asked for.
func (s *Service) applyConfiguration(c *Creation) error {
	from, err := s.Find(c.ConfigFrom)
	switch {
	case err != nil:
		return fmt.Errorf("could not find the configuration network %q: %w", c.ConfigFrom, err)
	case !from.ConfigOnly:
		return refuse(errdefs.ErrPermissionDenied, "network %q is not a configuration network", from.Name)
	case len(c.Pools) > 0 || len(c.Options) > 0 || len(c.AddressingOptions) > 0 || c.IPv6 != nil && *c.IPv6:
		return refuse(errdefs.ErrPermissionDenied, "user specified configurations are not supported if the network depends on a configuration network")
	}
	c.ConfigFrom = from.Name
	c.Pools, c.Options, c.AddressingOptions = slices.Clone(from.Pools), maps.Clone(from.Given), maps.Clone(from.Addressing)
	c.IPv4, c.IPv6 = &from.IPv4, &from.IPv6
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	return nil
}

// dependents are the names of the networks that use a configuration. Called with mu
// held.
func (s *Service) dependents(r port.Record) string {
	var out []string
	for _, n := range s.networks {
		if r.ConfigOnly && n.ConfigFrom == r.Name {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
