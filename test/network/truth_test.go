package network_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/orlop/orlop/network/networktest"
)

// truth says who reaches whom: from, to:port, over IPv4, over IPv6. Every container
// serves the ports 80 and 81, of which 80 of the first of a network is published.
// The host serves 90 and outside 80. Networks: d is the default bridge, a and b are
// people's own, b without IPv6, i is internal, s is one without traffic between its
// containers, v is without IPv4. Of the gateway modes r is routed, u is nat-unprotected,
// x isolated; t trusts the interface to outside. "lo" is the host's loopback, "ig" its address on i.
const truth = `
d1   d2:81     yes -
d1   a1:81     no  -
d1   a1:80     no  -     published, and still another network's
d1   out:80    yes -
d1   host:90   yes -
d1   host:8002 yes -     a port of another network
d1   host:8001 yes -     its own, there and back
d1   host:8101 no  -     published on the loopback
a1   a2:81     yes yes
a1   b1:81     no  -
a1   d1:81     no  -
a1   i1:81     no  no
a1   s1:81     no  no
a1   out:80    yes yes
a1   host:90   yes yes
a1   host:8002 yes yes
a1   host:8004 yes yes
b1   a1:81     no  -
b1   out:80    yes -
s1   s2:81     no  no    not even neighbours
s1   s2:80     no  no
s1   host:8004 yes yes   its own, there and back
s2   host:8004 yes yes   its neighbour's: published is published
s1   out:80    yes yes
i1   i2:81     yes yes
i1   a1:80     no  no
i1   out:80    no  no
i1   host:8002 no  no    not by the proxy either
i1   host:8001 no  no
out  host:8001 yes yes   over IPv6 by the proxy
out  host:8002 yes yes
out  host:8004 yes yes
out  host:8005 no  no    internal: not published
out  host:8101 no  no    published on the loopback
out  host:81   no  no
out  d1:80     no  -     published, but not at this address
out  d1:81     no  -
out  a1:80     no  no
out  a1:81     no  no
out  a2:81     no  no
out  s1:81     no  no
out  i1:80     no  no
a1   r1:80     yes yes   published, at its own address
a1   r1:81     no  no
a1   r2:80     no  no
a1   u1:81     yes yes   wants no protection
a1   v1:80     -   no
a1   x1:80     no  no
a1   host:8006 no  no    routed: the host's port isn't used
a1   host:8007 yes yes
a1   host:8008 yes yes   over IPv4 by the proxy
i1   r1:80     no  no
i1   u1:81     no  no
i1   ig:90     yes yes   the host's services
r1   r2:81     yes yes
r1   a1:81     no  no
r1   u1:81     yes yes
r1   out:80    yes yes
r1   host:90   yes yes
r1   host:8002 yes yes
u1   u2:81     yes yes
u1   a1:81     no  no
u1   r1:80     yes yes
u1   r1:81     no  no
u1   out:80    yes yes
u1   host:8007 yes yes   its own, there and back
v1   v2:81     -   yes
v1   a1:81     no  no
v1   r1:80     no  yes
v1   out:80    no  yes
v1   host:90   no  yes
v1   host:8008 no  yes
x1   x2:81     yes yes
x1   a1:80     no  no
x1   r1:80     no  no
x1   u1:81     no  no
x1   out:80    no  no
x1   host:90   no  no
x1   host:8002 no  no
out  r1:80     yes yes   published, at its own address
out  r1:81     no  no
out  r2:80     no  no
out  host:8006 no  no
out  u1:80     yes yes
out  u1:81     yes yes
out  u2:80     yes yes   published or not
out  host:8007 yes yes
out  v1:80     -   no
out  host:8008 yes yes   over IPv4 by the proxy
out  x1:80     no  no
out  host:8009 no  no    isolated: not published
out  t1:80     yes yes   published, by an interface that t trusts
out  t1:81     no  no
out  t2:80     no  no
out  host:8010 yes yes
a1   t1:80     no  no    by one that it doesn't
host r1:81     yes yes
host u1:81     yes yes
host v1:81     -   yes
host x1:81     no  no    the host has no address there
host lo:8006   no  no
host lo:8007   yes yes
host lo:8008   yes yes
host d1:81     yes -
host a1:81     yes yes
host i1:81     yes yes
host host:8001 yes yes
host lo:8001   yes yes
host lo:8002   yes yes
host lo:8101   yes no    published on 127.0.0.1 alone
`

// sources says as whom the world outside sees those who ask it, by family: the host
// hides containers of the modes nat.
const sources = `
a1 host host
b1 host -
u1 host host
v1 -    host
r1 r1   r1
`

// world is a host with containers.
type world struct {
	*host
	spaces  map[string]string    // by whom: the path of a namespace
	address map[string][2]string // of whom
	network map[string]string    // of which container
}

const mode4, mode6 = "com.docker.network.bridge.gateway_mode_ipv4=", "com.docker.network.bridge.gateway_mode_ipv6="

var worldNetworks = []struct {
	name    string
	options []string
	port    string
}{
	{"a", []string{"--ipv6"}, "8002"},
	{"b", nil, "8003"},
	{"s", []string{"--ipv6", "-o", "com.docker.network.bridge.enable_icc=false"}, "8004"},
	{"i", []string{"--ipv6", "--internal"}, "8005"},
	{"r", []string{"--ipv6", "-o", mode4 + "routed", "-o", mode6 + "routed"}, "8006"},
	{"u", []string{"--ipv6", "-o", mode4 + "nat-unprotected", "-o", mode6 + "nat-unprotected"}, "8007"},
	{"t", []string{"--ipv6", "-o", "com.docker.network.bridge.trusted_host_interfaces=other:wan"}, "8010"},
	{"v", []string{"--ipv4=false", "--ipv6"}, "8008"},
	{"x", []string{"--ipv6", "--internal", "-o", mode4 + "isolated", "-o", mode6 + "isolated"}, "8009"},
}

func (w *world) build() {
	w.Helper()
	w.spaces, w.network = map[string]string{"host": w.place.Path, "out": w.out.Path}, map[string]string{}
	w.address = map[string][2]string{"host": {hostIPv4, hostIPv6}, "out": {outIPv4, outIPv6}, "lo": {"127.0.0.1", "::1"}}
	w.run("d", "bridge", "8001")
	for _, n := range worldNetworks {
		w.docker(append(append([]string{"network", "create"}, n.options...), n.name)...)
		w.run(n.name, n.name, n.port)
	}
	w.address["ig"] = w.gateways("i")
	w.serve(w.place, 90)
	w.serve(w.out, 80)
}

// gateways are the host's addresses on a network.
func (w *world) gateways(network string) (out [2]string) {
	w.Helper()
	for a := range strings.FieldsSeq(w.docker("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", network)) {
		if strings.Contains(a, ":") {
			out[1] = a
		} else {
			out[0] = a
		}
	}
	return out
}

// run starts the two containers of a network.
func (w *world) run(name, network, port string) {
	w.Helper()
	for i := 1; i <= 2; i++ {
		who := fmt.Sprint(name, i)
		args := []string{"run", "-d", "--restart", "always", "--name", "c" + who, "--network", network}
		if i == 1 {
			args = append(args, "-p", port+":80")
		}
		if who == "a1" {
			args = append(args, "-p", "127.0.0.1:8101:80")
		}
		script := "mkdir -p /w; echo " + who + " >/w/index.html; busybox httpd -p 81 -h /w; exec busybox httpd -f -p 80 -h /w"
		w.docker(append(args, "box", "sh", "-c", script)...)
		w.network[who] = network
		w.look(who)
	}
}

// look finds a container's namespace and addresses.
func (w *world) look(who string) {
	w.Helper()
	var s struct {
		SandboxKey string
		Networks   map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
	if err := json.Unmarshal([]byte(w.docker("inspect", "-f", "{{json .NetworkSettings}}", "c"+who)), &s); err != nil {
		w.Fatal(err)
	}
	w.spaces[who] = s.SandboxKey
	n := s.Networks[w.network[who]]
	w.address[who] = [2]string{n.IPAddress, n.GlobalIPv6Address}
	wait := "for i in $(seq 500); do busybox wget -q -O - http://127.0.0.1:80/ >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1"
	if out, err := w.try("nsenter", "--net="+s.SandboxKey, "sh", "-c", wait); err != nil {
		w.Fatalf("%s does not serve: %v %s", who, err, out)
	}
}

func (w *world) serve(p *networktest.Place, port int) {
	w.Helper()
	dir := w.TempDir()
	for name, text := range map[string]string{"index.html": "place\n", "cgi-bin/who": "#!/bin/sh\necho; echo $REMOTE_ADDR\n"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			w.Fatal(err)
		}
	}
	p.Serve(fmt.Sprintf("busybox httpd -f -p %d -h %s", port, dir))
	p.Run(fmt.Sprintf("for i in $(seq 500); do busybox wget -q -O - http://127.0.0.1:%d/ >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1", port))
}

// check asks every question of the tables.
func (w *world) check(when string) {
	w.Run(when, func(t *testing.T) {
		var work sync.WaitGroup
		places := make(chan struct{}, 32)
		each := func(table string, columns int, ask func(f []string, family int, want string)) {
			for line := range strings.Lines(table) {
				f := strings.Fields(line)
				if len(f) < columns+2 {
					continue
				}
				for i, want := range f[columns : columns+2] {
					if want == "-" {
						continue
					}
					work.Go(func() {
						places <- struct{}{}
						defer func() { <-places }()
						ask(f, i, want)
					})
				}
			}
		}
		each(truth, 2, func(f []string, family int, want string) {
			if have := w.asks(f[0], f[1], family, want); have != want {
				t.Errorf("%s to %s over IPv%d: %s, want %s", f[0], f[1], 4+2*family, have, want)
			}
		})
		each(sources, 1, func(f []string, family int, want string) {
			have, err := w.fetch(f[0], w.address["out"][family], "80/cgi-bin/who", "10")
			if have = seenAs(have); err != nil || have != w.address[want][family] {
				t.Errorf("%s is seen over IPv%d as %q, want %s: %v", f[0], 4+2*family, have, want, err)
			}
		})
		work.Wait()
	})
}

// seenAs is an address as busybox's httpd tells it to programs.
func seenAs(text string) string { return strings.TrimPrefix(strings.Trim(text, "[]"), "::ffff:") }

// asks waits long for what is to come, and briefly for what isn't.
func (w *world) asks(from, to string, family int, want string) string {
	name, port, _ := strings.Cut(to, ":")
	a := w.address[name][family]
	if a == "" {
		return "no address"
	}
	if out, err := w.fetch(from, a, port+"/", map[string]string{"yes": "10", "no": "1"}[want]); err != nil || out == "" {
		return "no"
	}
	return "yes"
}

// fetch asks one question from a namespace, for some seconds.
func (w *world) fetch(from, address, path, seconds string) (string, error) {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return w.try("nsenter", "--net="+w.spaces[from], "timeout", seconds, "busybox", "wget", "-q", "-O", "-", "http://"+address+":"+path)
}

// again finds all containers that have started by themselves.
func (w *world) again() {
	w.Helper()
	want := fmt.Sprint(len(w.network))
	if out, err := w.try("sh", "-c", "for i in $(seq 300); do [ $(docker ps -q --filter status=running | wc -l) = "+want+" ] && exit 0; sleep 0.1; done; docker ps -a; exit 1"); err != nil {
		w.Fatalf("not all containers have come back: %v\n%s", err, out)
	}
	for who := range w.network {
		w.look(who)
	}
}

// TestTruth asks who reaches whom: at first, after somebody has flushed the firewall
// (CVE-2025-54410), after the daemon was killed, and after all that is in memory was lost;
// and what is left at the end.
func TestTruth(t *testing.T) {
	w := &world{host: newHost(t)}
	before := w.place.Snapshot()
	w.start()
	w.image()
	w.build()
	w.check("at first")
	rules := w.place.Run("nft list ruleset")
	w.place.Run("nft flush ruleset")
	w.place.Run("for i in $(seq 1000); do nft list ruleset | grep -q orlop && exit 0; sleep 0.01; done; exit 1")
	if now := w.place.Run("sleep 0.1; nft list ruleset"); now != rules {
		t.Errorf("after a flush:\n%s\nbefore:\n%s", now, rules)
	}
	w.check("after a flush")
	w.stop(syscall.SIGKILL)
	w.start()
	w.check("after the daemon was killed")
	w.reboot()
	w.again()
	w.check("after a reboot")
	w.clean(before)
}
