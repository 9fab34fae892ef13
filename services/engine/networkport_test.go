package engine

import (
	"fmt"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"
	apinet "github.com/moby/moby/api/types/network"
)

func TestPorts(t *testing.T) {
	port := func(text string, bindings ...string) apinet.PortMap {
		m := apinet.PortMap{apinet.MustParsePort(text): nil}
		for p := range m {
			for _, b := range bindings {
				m[p] = append(m[p], apinet.PortBinding{HostPort: b})
			}
		}
		return m
	}
	both := port("80/tcp", "8080", "")
	both[apinet.MustParsePort("53/udp")] = []apinet.PortBinding{{HostPort: "53"}}
	for _, c := range []struct {
		name    string
		m       apinet.PortMap
		exposed []string
		all     bool
		want    string // "bad", or protocol host-end:container, in order
	}{
		{"one", port("80/tcp", "8080"), nil, false, "tcp 8080-8080:80"},
		{"the kernel chooses", port("80/tcp", ""), nil, false, "tcp 0-0:80"},
		{"no binding", port("80/tcp"), nil, false, "tcp 0-0:80"},
		{"zero", port("80/tcp", "0"), nil, false, "tcp 0-0:80"},
		{"a range", port("80/sctp", "8000-8010"), nil, false, "sctp 8000-8010:80"},
		{"chosen ones come first", both, nil, false, "udp 53-53:53, tcp 8080-8080:80, tcp 0-0:80"},
		{"all that are exposed", port("80/tcp", "8080"), []string{"80/tcp", "90/udp"}, true, "tcp 8080-8080:80, udp 0-0:90"},
		{"exposed", nil, []string{"90/udp"}, false, ""},
		{"odd protocol", port("80/icmp", "8080"), nil, false, "bad"},
		{"no port", port("0/tcp", "8080"), nil, false, "bad"},
		{"backwards", port("80/tcp", "8010-8000"), nil, false, "bad"},
		{"too high", port("80/tcp", "70000"), nil, false, "bad"},
		{"words", port("80/tcp", "http"), nil, false, "bad"},
	} {
		config := &api.Config{ExposedPorts: apinet.PortSet{}}
		for _, p := range c.exposed {
			config.ExposedPorts[apinet.MustParsePort(p)] = struct{}{}
		}
		list, err := portsOf(config, &hostConfig{PortBindings: c.m, PublishAllPorts: c.all})
		var have []string
		for _, p := range list {
			have = append(have, fmt.Sprintf("%s %d-%d:%d", p.Protocol, p.Host, p.HostEnd, p.Container))
		}
		got := strings.Join(have, ", ")
		if err != nil {
			got = "bad"
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}

func TestSplitLink(t *testing.T) {
	for text, want := range map[string]string{"db": "db db", "db:store": "db store", "/db:/user/store": "db store", "db:": "db "} {
		target, alias := SplitLink(text)
		if have := target + " " + alias; have != want {
			t.Errorf("%q: %q, want %q", text, have, want)
		}
	}
}
