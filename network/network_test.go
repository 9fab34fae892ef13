package network_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

func good() network.Network {
	return network.Network{ID: "0123456789ab", IPv4: true, Pools: []network.Pool{
		{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}}
}

func TestNetworks(t *testing.T) {
	n := good()
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*network.Network){
		"no ID":               func(n *network.Network) { n.ID = "" },
		"short ID":            func(n *network.Network) { n.ID = "0123456789a" },
		"ID with a path":      func(n *network.Network) { n.ID = "../../../etc" },
		"bridge with a path":  func(n *network.Network) { n.Options.Bridge = "../x" },
		"bridge too long":     func(n *network.Network) { n.Options.Bridge = "a234567890123456" },
		"bridge named all":    func(n *network.Network) { n.Options.Bridge = "all" },
		"MTU":                 func(n *network.Network) { n.Options.MTU = 67 },
		"mode":                func(n *network.Network) { n.Options.Gateway4 = "odd" },
		"isolated and not in": func(n *network.Network) { n.Options.Gateway6 = network.Isolated },
		"host bits":           func(n *network.Network) { n.Pools[0].Subnet = netip.MustParsePrefix("10.0.0.1/24") },
		"gateway outside":     func(n *network.Network) { n.Pools[0].Gateway = netip.MustParseAddr("10.0.1.1") },
		"family that is off":  func(n *network.Network) { n.IPv4 = false },
	} {
		n := good()
		spoil(&n)
		if err := n.Check(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	good := func() network.Endpoint {
		return network.Endpoint{ID: "0123456789ab", Interface: "eth0", Ports: []network.Port{{Protocol: network.TCP, Container: 80, Host: 8000, HostEnd: 8010}}}
	}
	e := good()
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*network.Endpoint){
		"no ID":         func(e *network.Endpoint) { e.ID = "" },
		"interface":     func(e *network.Endpoint) { e.Interface = "eth 0" },
		"multicast MAC": func(e *network.Endpoint) { e.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} },
		"long MAC":      func(e *network.Endpoint) { e.MAC = make(net.HardwareAddr, 8) },
		"protocol":      func(e *network.Endpoint) { e.Ports[0].Protocol = "icmp" },
		"no port":       func(e *network.Endpoint) { e.Ports[0].Container = 0 },
		"range upwards": func(e *network.Endpoint) { e.Ports[0].HostEnd = 7999 },
		"many ports":    func(e *network.Endpoint) { e.Ports = make([]network.Port, network.MaxPorts+1) },
	} {
		e := good()
		spoil(&e)
		if err := e.Check(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMACOf(t *testing.T) {
	of := func(s string) string { return network.MACOf([]netip.Prefix{netip.MustParsePrefix(s)}).String() }
	if of("172.17.0.2/16") != "02:42:ac:11:00:02" {
		t.Error(of("172.17.0.2/16"))
	}
	if of("fd00::2/64") == of("fd00::3/64") || of("fd00::2/64")[:5] != "02:43" {
		t.Error(of("fd00::2/64"), of("fd00::3/64"))
	}
}

func TestMetric(t *testing.T) {
	order := []uint32{network.Metric(1<<30, 0), network.Metric(2, 0), network.Metric(2, 1), network.Metric(1, 0), network.Metric(0, 7),
		network.Metric(-1, 0), network.Metric(-1<<30, 3)}
	for i := 1; i < len(order); i++ {
		if order[i-1] >= order[i] || order[i-1] == 0 {
			t.Error(order)
		}
	}
}
