package network_test

import (
	"strings"
	"testing"
)

// TestPublishedBy: ports are published by way of the network that has the default route of
// a family, as networks come and go, and on routed ones at the container's own address in
// any case.
func TestPublishedBy(t *testing.T) {
	w := &world{host: newHost(t), spaces: map[string]string{}, address: map[string][2]string{}, network: map[string]string{}}
	w.spaces["out"], w.address["host"] = w.out.Path, [2]string{hostIPv4, hostIPv6}
	before := w.place.Snapshot()
	w.start()
	w.image()
	w.docker("network", "create", "n4")
	w.docker("network", "create", "--ipv4=false", "--ipv6", "n6")
	w.docker("network", "create", "--ipv6", "nd")
	w.docker("network", "create", "--ipv6", "-o", mode4+"routed", "-o", mode6+"routed", "nr")
	w.docker("network", "create", "--ipv6", "-o", mode6+"routed", "nm")
	script := `mkdir -p /w/cgi-bin; echo x >/w/index.html; printf '#!/bin/sh\necho; echo $REMOTE_ADDR\n' >/w/cgi-bin/who; chmod +x /w/cgi-bin/who; exec busybox httpd -f -p 80 -h /w`
	w.docker("run", "-d", "--name", "cx", "--network", "n4", "-p", "8080:80", "box", "sh", "-c", script)
	w.network["x"] = "n4"
	w.look("x")
	gateway := w.gateways("n4")[0]

	w.shows("0.0.0.0:8080 [::]:8080")
	w.seen("on the network without IPv6, by the proxy", outIPv4, gateway)
	w.docker("network", "connect", "n6", "cx")
	w.shows("0.0.0.0:8080 [::]:8080")
	w.seen("with IPv6 by the other", outIPv4, outIPv6)
	w.docker("network", "disconnect", "n6", "cx")
	w.seen("without it again", outIPv4, gateway)
	w.docker("network", "connect", "--gw-priority", "1", "nd", "cx")
	w.shows("0.0.0.0:8080 [::]:8080")
	w.seen("by the one with both", outIPv4, outIPv6)
	w.docker("network", "disconnect", "n4", "cx")
	w.seen("which doesn't need the first", outIPv4, outIPv6)

	w.docker("network", "connect", "nr", "cx")
	w.shows("0.0.0.0:8080 [::]:8080 0.0.0.0: [::]:")
	w.seen("with a routed one besides", outIPv4, outIPv6)
	w.reaches("nr", "yes", "yes")
	w.reaches("nd", "no", "no")
	w.docker("restart", "-t", "0", "cx")
	w.network["x"] = "nd"
	w.look("x")
	w.seen("after a restart", outIPv4, outIPv6)
	w.reaches("nr", "yes", "yes")
	w.docker("network", "disconnect", "nd", "cx")
	w.shows("0.0.0.0: [::]:")
	w.seen("routed, the host's port isn't used", "", "")
	w.reaches("nr", "yes", "yes")
	w.docker("network", "connect", "--gw-priority", "1", "nm", "cx")
	w.shows("0.0.0.0:8080 0.0.0.0: [::]:")
	w.seen("one family routed", outIPv4, "")
	w.reaches("nm", "no", "yes")
	w.clean(before)
}

// shows compares the bindings of port 80 that the container x shows.
func (w *world) shows(want string) {
	w.Helper()
	format := `{{range index .NetworkSettings.Ports "80/tcp"}}{{.HostIp}}:{{.HostPort}} {{end}}`
	have := strings.ReplaceAll(w.docker("inspect", "-f", format, "cx"), ":::", "[::]:")
	if strings.TrimSpace(have) != want {
		w.Errorf("it shows %q, want %q", have, want)
	}
}

// seen asks the host's port over both families, and tells as whom the container x sees who
// asks: nobody, if it isn't reached.
func (w *world) seen(when string, want4, want6 string) {
	w.Helper()
	for i, want := range []string{want4, want6} {
		have, _ := w.fetch("out", w.address["host"][i], "8080/cgi-bin/who", map[bool]string{true: "1", false: "10"}[want == ""])
		if have = seenAs(have); have != want && !(want == "" && strings.Contains(have, "wget:")) {
			w.Errorf("%s: over IPv%d it sees %q, want %q", when, 4+2*i, have, want)
		}
	}
}

// reaches asks from outside at the addresses of the container x on a network.
func (w *world) reaches(network, want4, want6 string) {
	w.Helper()
	w.network["x"] = network
	w.look("x")
	for i, want := range []string{want4, want6} {
		if have := w.asks("out", "x:80", i, want); have != want {
			w.Errorf("at its address on %s over IPv%d: %s, want %s", network, 4+2*i, have, want)
		}
	}
}
