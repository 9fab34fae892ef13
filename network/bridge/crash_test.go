package bridge_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/networktest"
)

var kills = flag.Int("kills", 12, "how often TestKilled kills")

// TestMain is the daemon that TestKilled kills, if it is asked to be.
func TestMain(m *testing.M) {
	if host := os.Getenv("ORLOP_TEST_HOST"); host != "" {
		busy(host, os.Getenv("ORLOP_TEST_SANDBOX"))
	}
	os.Exit(m.Run())
}

// busy makes, connects, disconnects and removes without end.
func busy(host, sandbox string) {
	ctx := context.Background()
	d, err := bridge.Open(bridge.Config{Namespace: host})
	if err != nil {
		panic(err)
	}
	n := networks()["a"]
	e := networktest.EndpointOf(n, 1, &networktest.Place{Path: sandbox})
	e.Ports = []network.Port{{Protocol: network.TCP, Container: 80, Host: 8001}, {Protocol: network.UDP, Container: 53}}
	for {
		if err := d.Create(ctx, n); err != nil {
			panic(err)
		}
		for range 3 {
			if _, err := d.Connect(ctx, e); err != nil {
				panic(err)
			}
			if err := d.Disconnect(ctx, e); err != nil {
				panic(err)
			}
		}
		if err := d.Remove(ctx, n.ID); err != nil {
			panic(err)
		}
	}
}

// TestKilled kills a daemon at any instruction. The next one, with nothing recorded,
// leaves nothing; or, with a network and an endpoint recorded, makes them work.
func TestKilled(t *testing.T) {
	host, sandbox := networktest.NewPlace(t), networktest.NewPlace(t)
	before, inside := host.Snapshot(), sandbox.Snapshot()
	for i := range *kills {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "ORLOP_TEST_HOST="+host.Path, "ORLOP_TEST_SANDBOX="+sandbox.Path)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Millisecond + time.Duration(rand.IntN(80_000))*time.Microsecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("it wasn't killed: %v", err)
		}
		d := open(t, host)
		if i%2 == 0 {
			recorded(t, d, host, sandbox)
		} else if err := d.Reconcile(t.Context(), network.State{}); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if after := host.Snapshot(); after != before {
			t.Fatalf("kill %d left on the host:\n%s", i, after)
		}
		if f := host.Run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"); f != "0\n0\n" {
			t.Fatalf("kill %d: forwarding stayed on: %s", i, f)
		}
		if after := sandbox.Snapshot(); after != inside {
			t.Fatalf("kill %d left in the sandbox:\n%s", i, after)
		}
	}
}

// recorded takes over what may be there in part, uses it and removes it.
func recorded(t *testing.T, d network.Driver, host, sandbox *networktest.Place) {
	t.Helper()
	n := networks()["a"]
	e := networktest.EndpointOf(n, 1, sandbox)
	e.MAC = network.MACOf(e.Addresses)
	if err := d.Reconcile(t.Context(), network.State{Networks: []network.Network{n}, Endpoints: []network.Endpoint{e}}); err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		host.Run("busybox ping -c1 -W5 " + e.Address(v6).String())
		sandbox.Run("busybox ping -c1 -W5 " + n.Gateway(v6).String())
	}
	if err := d.Disconnect(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
}
