package bridge

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
)

const errExists = unix.EEXIST

const (
	forward4 = "ipv4/ip_forward"
	forward6 = "ipv6/conf/all/forwarding"
)

// bridgeSysctls sets a bridge up before it is: it believes no router, and has no
// IPv6 that the network hasn't.
func bridgeSysctls(name string, v6 bool) error {
	return errors.Join(
		namespace.Sysctl("ipv6/conf/"+name+"/accept_ra", "0", true),
		namespace.Sysctl("ipv6/conf/"+name+"/accept_dad", "0", true),
		namespace.Sysctl("ipv6/conf/"+name+"/disable_ipv6", digit(!v6), !v6),
	)
}

// sandboxSysctls are for interfaces that are yet to be made in a sandbox.
func sandboxSysctls(v6 bool) error {
	return errors.Join(
		namespace.Sysctl("ipv6/conf/default/accept_ra", "0", true),
		namespace.Sysctl("ipv6/conf/default/accept_dad", "0", true),
		namespace.Sysctl("ipv6/conf/default/disable_ipv6", digit(!v6), !v6),
	)
}

func digit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// forward lets the host forward the families that a network needs forwarded.
func (d *Driver) forward(ctx context.Context, b *bridged) error {
	if b.Internal {
		return nil
	}
	d.forwarding.Lock()
	defer d.forwarding.Unlock()
	for _, f := range []struct {
		need, v6 bool
		name     string
	}{{b.IPv4, false, forward4}, {b.IPv6, true, forward6}} {
		if !f.need || d.get(f.name) == "1" {
			continue
		}
		if err := d.fw.SetUnrouted(ctx, f.v6); err != nil {
			return err
		}
		err := d.ns.Do(func() error {
			if f.v6 {
				keepAdvertisements()
			}
			return namespace.Sysctl(f.name, "1", false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// get reads a setting of the host.
func (d *Driver) get(name string) (value string) {
	_ = d.ns.Do(func() error {
		data, err := os.ReadFile("/proc/sys/net/" + name)
		value = strings.TrimSpace(string(data))
		return err
	})
	return value
}

// keepAdvertisements lets interfaces that believe routers go on when the host becomes
// one. It runs in the host's namespace, and does what it can.
func keepAdvertisements() {
	entries, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return
	}
	for _, e := range entries {
		path := "/proc/sys/net/ipv6/conf/" + e.Name() + "/accept_ra"
		if data, err := os.ReadFile(path); err == nil && string(data) == "1\n" && e.Name() != "all" && e.Name() != "default" {
			_ = namespace.Sysctl("ipv6/conf/"+e.Name()+"/accept_ra", "2", true)
		}
	}
}

// stopForwarding turns forwarding off again with the last network that needs it, if
// we turned it on. The forwarding mutex is held.
func (d *Driver) stopForwarding(b *bridged) error {
	var other network.Network
	d.mu.Lock()
	for _, n := range d.networks {
		if n != b && !n.Internal {
			other.IPv4, other.IPv6 = other.IPv4 || n.IPv4, other.IPv6 || n.IPv6
		}
	}
	d.mu.Unlock()
	return d.ns.Do(func() error {
		var errs []error
		if !other.IPv4 && d.fw.Unrouted(false) {
			errs = append(errs, namespace.Sysctl(forward4, "0", true))
		}
		if !other.IPv6 && d.fw.Unrouted(true) {
			errs = append(errs, namespace.Sysctl(forward6, "0", true))
		}
		return errors.Join(errs...)
	})
}
