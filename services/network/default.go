package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	port "github.com/orlop/orlop/network"
)

// Default is how the network is set up that containers are on if they name none. The
// zero value is an IPv4 subnet of the pools.
type Default struct {
	// None leaves containers that name no network without one.
	None bool
	// Kept has its device be there whenever the daemon is, and after it: for programs that
	// listen at its address. Else it is made for the first container on it.
	Kept bool
	// IPv6 gives it IPv6, too.
	IPv6 bool
	// Address4 and Address6 are the host's, with the length of the subnet's prefix.
	Address4, Address6 netip.Prefix
	// Range4 and Range6 are what containers' addresses are chosen of; without the
	// host's address they are the subnet.
	Range4, Range6 netip.Prefix
	Options        port.Options
}

// Validate tells what can't be.
func (d *Default) Validate() error {
	for _, f := range []struct {
		name string
		p    netip.Prefix
		v6   bool
		host bool
	}{{"bip", d.Address4, false, true}, {"bip6", d.Address6, true, true}, {"fixed_cidr", d.Range4, false, false}, {"fixed_cidr_v6", d.Range6, true, false}} {
		switch {
		case !f.p.IsValid():
			continue
		case f.p.Addr().Is6() != f.v6:
			return fmt.Errorf("%s: %s is of the other family", f.name, f.p)
		case f.host && f.p.Addr() == f.p.Masked().Addr():
			return fmt.Errorf("%s: %s is a subnet, not an address in one", f.name, f.p)
		case !f.host && f.p != f.p.Masked():
			return fmt.Errorf("%s: %s should be %s", f.name, f.p, f.p.Masked())
		}
	}
	for _, pair := range [][2]netip.Prefix{{d.Address4, d.Range4}, {d.Address6, d.Range6}} {
		if pair[0].IsValid() && pair[1].IsValid() && (!pair[0].Masked().Contains(pair[1].Addr()) || pair[1].Bits() < pair[0].Bits()) {
			return fmt.Errorf("the range %s is not within the subnet of %s", pair[1], pair[0])
		}
	}
	if !d.IPv6 && (d.Address6.IsValid() || d.Range6.IsValid()) {
		return fmt.Errorf("bip6 and fixed_cidr_v6 need ipv6 = true")
	}
	return nil
}

// pools are the subnets that it names.
func (d *Default) pools() []port.Pool {
	var out []port.Pool
	for _, pair := range [][2]netip.Prefix{{d.Address4, d.Range4}, {d.Address6, d.Range6}} {
		host, part := pair[0], pair[1]
		switch {
		case host.IsValid():
			out = append(out, port.Pool{Subnet: host.Masked(), Range: part, Gateway: host.Addr()})
		case part.IsValid():
			out = append(out, port.Pool{Subnet: part})
		}
	}
	return out
}

// record is the default network's record as the config wants it, but for subnets.
func (s *Service) defaultRecord(r port.Record) port.Record {
	d := s.config.Default
	r.IPv4, r.IPv6, r.Options = true, d.IPv6, d.Options
	r.Options.Bridge = s.config.Bridge
	mtu := defaultMTU
	if d.Options.MTU != 0 {
		mtu = d.Options.MTU
	}
	host := "0.0.0.0"
	if a := d.Options.HostAddress; a.IsValid() {
		host = a.String()
	}
	r.Given = map[string]string{optDefault: "true", optICC: strconv.FormatBool(!d.Options.Separate), optMasquerade: strconv.FormatBool(!d.Options.NoMasquerade),
		optBinding: host, optName: s.config.Bridge, optMTU: strconv.Itoa(mtu)}
	return r
}

// adjust makes the recorded default network as the config wants it. While containers
// of an earlier daemon are on it, it stays as they know it.
func (s *Service) adjust(ctx context.Context, old port.Record) (port.Record, error) {
	r := s.defaultRecord(old)
	wanted := s.config.Default.pools()
	same := r.IPv6 == old.IPv6 && r.Options == old.Options && fits(old.Pools, wanted)
	switch {
	case same:
		r.Pools = old.Pools
		return r, s.takeRecorded(r)
	case s.connectedOnDisk(old.ID):
		s.config.Report(fmt.Errorf("the default network is changed when no container is on it any more, and the daemon starts again"))
		return old, s.takeRecorded(old)
	}
	r.Pools = nil
	if !fits(old.Pools, wanted) || !r.IPv6 {
		wanted = slices.Clone(wanted)
	} else {
		wanted = old.Pools
	}
	if err := s.takePools(&r, wanted); err != nil {
		return old, err
	}
	return r, s.config.Store.UpdateNetwork(ctx, r)
}

// fits tells whether subnets are those that are wanted, of the families that name one.
func fits(have, wanted []port.Pool) bool {
	for _, w := range wanted {
		ok := slices.ContainsFunc(have, func(h port.Pool) bool {
			return h.Subnet == w.Subnet && (h.Range == w.Range || !h.Range.IsValid() && w.Range == w.Subnet) && (!w.Gateway.IsValid() || h.Gateway == w.Gateway)
		})
		if !ok {
			return false
		}
	}
	return true
}

// connectedOnDisk tells whether a sandbox's file names a network.
func (s *Service) connectedOnDisk(id string) bool {
	entries, err := os.ReadDir(s.recordFolder())
	if err != nil {
		return false
	}
	for _, entry := range entries {
		data, err := os.ReadFile(s.recordPath(entry.Name()))
		var b Sandbox
		if err == nil && json.Unmarshal(data, &b) == nil && slices.ContainsFunc(b.Endpoints, func(e Endpoint) bool { return e.Network == id }) {
			return true
		}
	}
	return false
}

// NoDefault tells that containers that name no network get none.
func (s *Service) NoDefault() bool { return s.config.Default.None }
