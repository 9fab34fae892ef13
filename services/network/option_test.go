package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		driver, key, value string
		want               port.Options
		class              func(error) bool
	}{
		{"bridge", optMTU, "1400", port.Options{MTU: 1400}, nil},
		{"bridge", optMTU, "many", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optICC, "false", port.Options{Separate: true}, nil},
		{"bridge", optICC, "true", port.Options{}, nil},
		{"bridge", optMasquerade, "0", port.Options{NoMasquerade: true}, nil},
		{"bridge", optBinding, "0.0.0.0", port.Options{}, nil},
		{"bridge", optBinding, "127.0.0.1", port.Options{HostAddress: netip.MustParseAddr("127.0.0.1")}, nil},
		{"bridge", optBinding, "localhost", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optName, "../x", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optMode6, "routed", port.Options{Gateway6: port.Routed}, nil},
		{"bridge", optTrusted, "eth1:eth2", port.Options{Trusted: "eth1:eth2"}, nil},
		{"bridge", optParent, "eth0", port.Options{}, errdefs.IsInvalidArgument},
		{"macvlan", optParent, "eth0.7", port.Options{Parent: "eth0.7"}, nil},
		{"macvlan", optMacvlanMode, "private", port.Options{Mode: "private"}, nil},
		{"macvlan", optICC, "false", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optInhibit4, "true", port.Options{InhibitIPv4: true}, nil},
		{"bridge", optInhibit4, "perhaps", port.Options{}, errdefs.IsInvalidArgument},
		{"macvlan", optInhibit4, "true", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optSource4, "10.0.0.1", port.Options{Source4: netip.MustParseAddr("10.0.0.1")}, nil},
		{"bridge", optSource6, "fd00::1", port.Options{Source6: netip.MustParseAddr("fd00::1")}, nil},
		{"bridge", optSource4, "fd00::1", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optSource6, "10.0.0.1", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optSource6, "::ffff:10.0.0.1", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optSource4, "0.0.0.0", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", optSource4, "eth0", port.Options{}, errdefs.IsInvalidArgument},
		{"macvlan", optSource4, "10.0.0.1", port.Options{}, errdefs.IsInvalidArgument},
		{"bridge", "com.docker.network.bridge.nosuch", "10.0.0.1", port.Options{}, errdefs.IsNotImplemented},
		{"bridge", "com.example.words", "of others", port.Options{}, nil},
	} {
		have, err := readOptions(c.driver, map[string]string{c.key: c.value})
		if c.class != nil {
			if !c.class(err) {
				t.Errorf("%s %s=%s: %v", c.driver, c.key, c.value, err)
			}
			continue
		}
		if err != nil || have != c.want {
			t.Errorf("%s %s=%s: %+v, %v", c.driver, c.key, c.value, have, err)
		}
	}
}

func TestSysctls(t *testing.T) {
	for text, fine := range map[string]bool{
		"": true, "net.ipv4.conf.IFNAME.log_martians=1": true, "net.ipv6.conf.ifname.accept_ra=2,net.ipv4.neigh.IFNAME.gc_stale_time=9": true,
		"net.ipv4.ip_forward=1": false, "net.ipv4.conf.eth0.log_martians=1": false, "kernel.core.x.IFNAME.y=1": false,
		"net.ipv4.conf.IFNAME.log_martians": false, "net.ipv4.conf/../../x.IFNAME.y=1": false, "net.ipv4...IFNAME.y=1": false,
	} {
		if _, err := readSysctls(text); (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSandboxID(t *testing.T) {
	for id, fine := range map[string]bool{"ab12": true, "": false, "..": false, ".x": false, "a/b": false, strings.Repeat("a", 129): false} {
		if err := checkID(id); (err == nil) != fine {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestArrange: who has the default route and which interface.
func TestArrange(t *testing.T) {
	end := func(name string, priority int, internal bool, ifname string) Endpoint {
		e := Endpoint{NetworkName: name, Priority: priority, Internal: internal}
		e.Interface, e.Addresses = ifname, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}
		if name == "b" {
			e.Addresses = append(e.Addresses, netip.MustParsePrefix("fd00::2/64"))
		}
		return e
	}
	b := new(sandbox)
	b.Endpoints = []Endpoint{end("z", 0, false, ""), end("i", 9, true, ""), end("b", 0, false, "eth0"), end("a", 0, false, ""), end("y", 1, false, "")}
	new(Service).arrange(b)
	var have []string
	for i, e := range b.Endpoints {
		have = append(have, e.NetworkName+":"+e.Interface)
		if !e.Internal && i > 0 && e.Metric <= b.Endpoints[i-1].Metric {
			t.Errorf("the route of %s is not behind the one before", e.NetworkName)
		}
	}
	if got, want := strings.Join(have, " "), "y:eth1 b:eth0 a:eth2 z:eth3 i:eth4"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
