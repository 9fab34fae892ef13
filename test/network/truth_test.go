package network_test

import (
	"encoding/json"
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
// containers. "lo" is the host's loopback.
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
host d1:81     yes -
host a1:81     yes yes
host i1:81     yes yes
host host:8001 yes yes
host lo:8001   yes yes
host lo:8002   yes yes
host lo:8101   yes no    published on 127.0.0.1 alone
`

// world is a host with containers.
type world struct {
	*host
	spaces  map[string]string    // by whom: the path of a namespace
	address map[string][2]string // of whom
}

var worldNetworks = []struct {
	name    string
	options []string
	port    string
}{
	{"a", []string{"--ipv6"}, "8002"},
	{"b", nil, "8003"},
	{"s", []string{"--ipv6", "-o", "com.docker.network.bridge.enable_icc=false"}, "8004"},
	{"i", []string{"--ipv6", "--internal"}, "8005"},
}

func (w *world) build() {
	w.Helper()
	w.spaces = map[string]string{"host": w.place.Path, "out": w.out.Path}
	w.address = map[string][2]string{"host": {hostIPv4, hostIPv6}, "out": {outIPv4, outIPv6}, "lo": {"127.0.0.1", "::1"}}
	w.run("d", "bridge", "8001")
	for _, n := range worldNetworks {
		w.docker(append(append([]string{"network", "create"}, n.options...), n.name)...)
		w.run(n.name, n.name, n.port)
	}
	w.serve(w.place, 90)
	w.serve(w.out, 80)
}

// run starts the two containers of a network.
func (w *world) run(name, network, port string) {
	w.Helper()
	for i := 1; i <= 2; i++ {
		who := fmt.Sprint(name, i)
		args := []string{"run", "-d", "--name", "c" + who, "--network", network}
		if i == 1 {
			args = append(args, "-p", port+":80")
		}
		if who == "a1" {
			args = append(args, "-p", "127.0.0.1:8101:80")
		}
		script := "mkdir /w; echo " + who + " >/w/index.html; busybox httpd -p 81 -h /w; exec busybox httpd -f -p 80 -h /w"
		w.docker(append(args, "box", "sh", "-c", script)...)
		w.look(who, network)
	}
}

// look finds a container's namespace and addresses.
func (w *world) look(who, network string) {
	w.Helper()
	var s struct {
		SandboxKey string
		Networks   map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
	if err := json.Unmarshal([]byte(w.docker("inspect", "-f", "{{json .NetworkSettings}}", "c"+who)), &s); err != nil {
		w.Fatal(err)
	}
	w.spaces[who] = s.SandboxKey
	w.address[who] = [2]string{s.Networks[network].IPAddress, s.Networks[network].GlobalIPv6Address}
	wait := "for i in $(seq 500); do busybox wget -q -O - http://127.0.0.1:80/ >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1"
	if out, err := w.try("nsenter", "--net="+s.SandboxKey, "sh", "-c", wait); err != nil {
		w.Fatalf("%s does not serve: %v %s", who, err, out)
	}
}

func (w *world) serve(p *networktest.Place, port int) {
	w.Helper()
	dir := w.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("place\n"), 0o644); err != nil {
		w.Fatal(err)
	}
	p.Serve(fmt.Sprintf("busybox httpd -f -p %d -h %s", port, dir))
	p.Run(fmt.Sprintf("for i in $(seq 500); do busybox wget -q -O - http://127.0.0.1:%d/ >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1", port))
}

// check asks every question of the table.
func (w *world) check(when string) {
	w.Run(when, func(t *testing.T) {
		var work sync.WaitGroup
		places := make(chan struct{}, 32)
		for line := range strings.Lines(truth) {
			f := strings.Fields(line)
			if len(f) < 4 {
				continue
			}
			for i, want := range f[2:4] {
				if want == "-" {
					continue
				}
				work.Go(func() {
					places <- struct{}{}
					defer func() { <-places }()
					if have := w.asks(f[0], f[1], i, want); have != want {
						t.Errorf("%s to %s over IPv%d: %s, want %s", f[0], f[1], 4+2*i, have, want)
					}
				})
			}
		}
		work.Wait()
	})
}

// asks waits long for what is to come, and briefly for what isn't.
func (w *world) asks(from, to string, family int, want string) string {
	name, port, _ := strings.Cut(to, ":")
	a := w.address[name][family]
	if a == "" {
		return "no address"
	}
	if family == 1 {
		a = "[" + a + "]"
	}
	wait := map[string]string{"yes": "10", "no": "1"}[want]
	out, err := w.try("nsenter", "--net="+w.spaces[from], "timeout", wait, "busybox", "wget", "-q", "-O", "-", "http://"+a+":"+port+"/")
	if err != nil || out == "" {
		return "no"
	}
	return "yes"
}

// TestTruth asks who reaches whom: at first, after somebody has flushed the firewall
// (CVE-2025-54410), and after the daemon was killed; and what is left at the end.
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
	w.clean(before)
}
