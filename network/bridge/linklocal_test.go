package bridge_test

import (
	"strings"
	"testing"
)

// TestLinkLocal: a published port is reached at the host's link-local address, too, from
// the link and from the host itself.
func TestLinkLocal(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	n := networks()["a"]
	w.ok(w.d.Create(t.Context(), n))
	w.connect(n, 1)
	for place, device := range map[string]string{"out": "eth0", "host": "wan0"} { // which look for others of their address first
		w.places[place].Run("for i in $(seq 500); do ip -o -6 addr show dev " + device + " scope link | grep -v tentative | grep -q fe80 && exit 0; sleep 0.02; done; exit 1")
	}
	address := strings.TrimSpace(w.host.Run("ip -o -6 addr show dev wan0 scope link | sed 's/.*inet6 \\([^/]*\\).*/\\1/'"))
	for name, device := range map[string]string{"out": "eth0", "host": "wan0"} {
		out, err := w.places[name].Try("timeout 10 busybox wget -q -O - http://[" + address + "%" + device + "]:8001/")
		if err != nil || out != "a1\n" {
			t.Errorf("from %s: %q, %v", name, out, err)
		}
	}
	w.ok(w.d.Disconnect(t.Context(), w.state.Endpoints[0]))
	w.ok(w.d.Remove(t.Context(), n.ID))
	w.ok(w.d.Close())
}
