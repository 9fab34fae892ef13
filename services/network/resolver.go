package network

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/orlop/orlop/network/dns"
)

// Naming is how names are found: what /etc/resolv.conf says. What is empty is the host's.
type Naming struct {
	// Servers are asked.
	Servers []netip.Addr
	// Search are the domains that are tried for a short name; "." alone is none.
	Search []string
	// Options are those of resolv.conf.
	Options []string
}

// Or takes from other what isn't said.
func (n Naming) Or(other Naming) Naming {
	if len(n.Servers) == 0 {
		n.Servers = other.Servers
	}
	if len(n.Search) == 0 {
		n.Search = other.Search
	}
	if len(n.Options) == 0 {
		n.Options = other.Options
	}
	return n
}

// ports are the servers, with the port that they are asked at.
func (n Naming) ports() []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range n.Servers {
		out = append(out, netip.AddrPortFrom(a, 53))
	}
	return out
}

// gatewayName is the host as sandboxes on networks of people's own know it.
const gatewayName = "host.docker.internal"

// named tells whether a sandbox is on a network whose sandboxes have names.
func (b *Sandbox) named() bool {
	return slices.ContainsFunc(b.Endpoints, func(e Endpoint) bool { return e.NetworkName != Bridge })
}

// openResolver starts to answer a sandbox's questions, if it is on a network with
// names or there is nobody else whom it could ask. Called with op held.
func (s *Service) openResolver(b *sandbox) error {
	now, _ := s.Sandbox(b.ID)
	if b.resolver != nil || !now.Resolves() {
		return nil
	}
	up := s.hosts.get
	if len(now.Servers) > 0 {
		var given []dns.Server
		for _, a := range now.Servers {
			given = append(given, dns.Server{Address: a})
		}
		up = func() []dns.Server { return given }
	}
	r, err := dns.Open(dns.Config{Sandbox: b.Path, Table: s.names, Upstream: up,
		Own: func(name string) ([]netip.Addr, bool) { return s.own(b, name) }})
	if err != nil {
		return err
	}
	b.resolver = r
	s.mu.Lock()
	b.Resolver = true
	s.mu.Unlock()
	return nil
}

// own are the names that only one sandbox knows: its links, and the host.
func (s *Service) own(b *sandbox, name string) ([]netip.Addr, bool) {
	now, _ := s.Sandbox(b.ID)
	for _, e := range now.Endpoints {
		if target := e.Links[name]; target != "" {
			return s.names.Lookup(b.Path, target)
		}
	}
	if name != gatewayName {
		return nil, false
	}
	return s.HostGateway(now), true
}

// HostGateway is where a sandbox reaches the host, as the config or its networks have it.
func (s *Service) HostGateway(b Sandbox) []netip.Addr {
	if len(s.config.HostGateway) > 0 {
		return slices.Clone(s.config.HostGateway) // whoever answers with it shuffles it
	}
	return b.gateways()
}

// gateways are the host's addresses on a sandbox's networks.
func (b *Sandbox) gateways() []netip.Addr {
	for _, e := range b.Endpoints {
		var out []netip.Addr
		for _, a := range []netip.Addr{e.Gateway4, e.Gateway6} {
			if a.IsValid() {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func (b *sandbox) closeResolver() error {
	if b.resolver == nil {
		return nil
	}
	r := b.resolver
	b.resolver = nil
	return r.Close()
}

// resolvFiles are where the host's servers are told: the one that programs of the host
// read, and where that names a server on the loopback, the one that names those behind it.
var resolvFiles = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// maxResolv bounds how much of such a file is read, in lines.
const maxResolv = 256

// readHostServers are those whom the host asks for names: the first file's, and in case
// none of them is reached from here, as in a namespace of the daemon's own, the others'.
func readHostServers() []dns.Server {
	var out []dns.Server
	for _, path := range resolvFiles {
		spare := len(out) > 0
		for _, a := range readServers(path) {
			if !slices.ContainsFunc(out, func(x dns.Server) bool { return x.Address == a }) {
				out = append(out, dns.Server{Address: a, Host: true, Spare: spare})
			}
		}
	}
	return out
}

// Direct are the host's servers that a sandbox reaches itself, those of the first file
// that names one.
func (b *Sandbox) Direct() []netip.Addr {
	for _, path := range resolvFiles {
		var out []netip.Addr
		for _, s := range readServers(path) {
			if b.reaches(s.Addr()) {
				out = append(out, s.Addr())
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// reaches tells whether an address of another machine is of a family that a sandbox has.
func (b *Sandbox) reaches(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() || a.Zone() != "" {
		return false
	}
	return slices.ContainsFunc(b.Endpoints, func(e Endpoint) bool { return e.Address(a.Is6()).IsValid() })
}

func readServers(path string) []netip.AddrPort {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []netip.AddrPort
	lines := bufio.NewScanner(f)
	for n := 0; n < maxResolv && lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}

// Resolves tells whether names are resolved at the resolver's address in a sandbox,
// now or once it is connected.
func (b *Sandbox) Resolves() bool {
	switch {
	case len(b.Endpoints) == 0:
		return false
	case b.Resolver || b.named():
		return true
	case len(b.Servers) > 0:
		return false // it asks them itself
	}
	return len(b.Direct()) == 0
}
