package bridge_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// TestLinks: a link opens the ports it names, to the one it names, and ends with either
// side. Another's link opens nothing more.
func TestLinks(t *testing.T) {
	w := newWorld(t)
	d := open(t, w.host)
	w.d = d
	defer func() { w.d.Close() }()
	n := networks()["s"]
	w.ok(d.Create(t.Context(), n))
	w.state.Networks = []network.Network{n}
	for i := range 4 {
		w.connect(n, i+1)
	}
	e := w.state.Endpoints
	link := func(from int, to ...int) {
		t.Helper()
		var links []network.Link
		for _, i := range to {
			links = append(links, network.Link{Endpoint: e[i].ID, Ports: []network.Service{{Protocol: network.TCP, Port: 80}}})
		}
		w.ok(w.d.(network.Linker).SetLinks(t.Context(), e[from], links))
		e[from].Linked = links
	}
	check := func(want map[string]string) {
		t.Helper()
		var work sync.WaitGroup
		for pair, want := range want {
			from, to, _ := strings.Cut(pair, " ")
			for family := range 2 {
				work.Go(func() {
					if have := w.asks(from, to, family, want); have != want {
						t.Errorf("%s, IPv%d: %s, want %s", pair, 4+2*family, have, want)
					}
				})
			}
		}
		work.Wait()
	}
	link(0, 1)
	link(2, 3)
	open1 := map[string]string{"s1 s2:80": "yes", "s1 s2:81": "no", "s2 s1:80": "no", "s1 s3:80": "no", "s1 s4:80": "no", "s3 s4:80": "yes", "s3 s2:80": "no"}
	check(open1)

	w.ok(w.d.Close())
	w.d = open(t, w.host)
	w.ok(w.d.Reconcile(t.Context(), w.state))
	check(open1)

	link(0, 3)
	check(map[string]string{"s1 s2:80": "no", "s1 s4:80": "yes", "s3 s4:80": "yes"})
	w.ok(w.d.Disconnect(t.Context(), e[3]))
	if left := w.host.Run("nft list set bridge orlop links; nft list set bridge orlop pairs; bridge -d link show"); strings.Contains(left, "elements") ||
		strings.Count(left, "isolated on") != 3 {
		t.Errorf("links to one that is gone:\n%s", left)
	}
	link(0, 1, 3) // of which one isn't there
	check(map[string]string{"s1 s2:80": "yes"})
	for _, x := range e[:3] {
		w.ok(w.d.Disconnect(t.Context(), x))
	}
	w.ok(w.d.Remove(t.Context(), n.ID))
	if left := w.host.Run("nft list ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if err := w.d.(network.Linker).SetLinks(t.Context(), networktest.EndpointOf(n, 1, w.host), nil); err == nil {
		t.Error("links of one that isn't connected")
	}
}
