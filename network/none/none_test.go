package none_test

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
	"github.com/orlop/orlop/network/none"
)

// TestDriver: the loopback works, and nothing else is there.
func TestDriver(t *testing.T) {
	var d network.Driver = none.New()
	p := networktest.NewPlace(t)
	p.Run("ip link set lo down")
	e := network.Endpoint{ID: "bbbbbbbbbbbb", Sandbox: p.Path}
	if _, err := d.Connect(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	p.Run("busybox ping -c1 -W2 127.0.0.1 && busybox ping -c1 -W2 ::1")
	if out, err := p.Try("busybox ping -c1 -W1 192.0.2.1"); err == nil {
		t.Error(out)
	}
	e.Ports = []network.Port{{Protocol: network.TCP, Container: 80}}
	if _, err := d.Connect(t.Context(), e); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := d.Connect(t.Context(), network.Endpoint{Sandbox: p.Path + "-not"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
