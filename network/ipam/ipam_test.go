package ipam

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

var (
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
)

func open(t *testing.T, c Config) *Allocator {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func take(t *testing.T, a *Allocator, r Request) network.Pool {
	t.Helper()
	p, err := a.TakePool(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultPools(t *testing.T) {
	a := open(t, Config{})
	for i := 17; i <= 31; i++ {
		want := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16)
		if p := take(t, a, Request{}); p.Subnet != want || p.Gateway != want.Addr().Next() {
			t.Fatalf("got %v, want %s", p, want)
		}
	}
	for i := 0; i < 16; i++ {
		want := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i * 16), 0}), 20)
		if p := take(t, a, Request{}); p.Subnet != want {
			t.Fatalf("got %v, want %s", p, want)
		}
	}
	if _, err := a.TakePool(Request{}); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Fatal(err)
	}
	p := take(t, a, Request{IPv6: true})
	q := take(t, a, Request{IPv6: true})
	if p.Subnet.Bits() != 64 || p.Subnet.Addr().As16()[0] != 0xfd || p.Subnet.Overlaps(q.Subnet) ||
		netip.PrefixFrom(p.Subnet.Addr(), 48).Masked() != netip.PrefixFrom(q.Subnet.Addr(), 48).Masked() {
		t.Fatal(p, q)
	}
}

func TestAvoidsRoutesOfTheHost(t *testing.T) {
	a := open(t, Config{})
	avoid := []netip.Prefix{prefix("0.0.0.0/0"), prefix("172.16.0.0/14"), prefix("172.20.5.0/24")}
	if p := take(t, a, Request{Avoid: avoid}); p.Subnet != prefix("172.21.0.0/16") {
		t.Fatal(p)
	}
	// Who names a subnet means it.
	take(t, a, Request{Pool: network.Pool{Subnet: prefix("172.20.5.0/24")}, Avoid: avoid})
	_, err := a.TakePool(Request{Pool: network.Pool{Subnet: prefix("172.20.0.0/16")}})
	if !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Fatal(err)
	}
}

// TestSizes: a subnet of the pools can be asked for by its size.
func TestSizes(t *testing.T) {
	a := open(t, Config{Bases: []Base{{prefix("10.9.0.0/24"), 26}, {prefix("10.8.0.0/16"), 24}}})
	for _, c := range []struct{ wanted, want string }{
		{"0.0.0.0/28", "10.9.0.0/28"}, {"0.0.0.0/28", "10.9.0.16/28"}, {"0.0.0.0/25", "10.9.0.128/25"}, {"0.0.0.0/20", "10.8.0.0/20"}, {"0.0.0.0/8", ""},
	} {
		p, err := a.TakePool(Request{Pool: network.Pool{Subnet: prefix(c.wanted)}})
		if have := p.Subnet.String(); err == nil && have != c.want || err != nil && (c.want != "" || !errors.Is(err, errdefs.ErrResourceExhausted)) {
			t.Errorf("%s: %s, %v, want %q", c.wanted, have, err, c.want)
		}
	}
	six, err := a.TakePool(Request{IPv6: true, Pool: network.Pool{Subnet: prefix("::/120")}})
	if err != nil || six.Subnet.Bits() != 120 || six.Subnet.Addr().IsUnspecified() || six.Gateway != six.Subnet.Addr().Next() {
		t.Errorf("IPv6: %+v, %v", six, err)
	}
}

func TestPoolsThatCannotBe(t *testing.T) {
	for name, p := range map[string]network.Pool{
		"host bits":           {Subnet: prefix("10.0.0.1/24")},
		"one address":         {Subnet: prefix("10.0.0.1/32")},
		"everything":          {Subnet: prefix("0.0.0.0/0")},
		"size and gateway":    {Subnet: prefix("0.0.0.0/24"), Gateway: addr("0.0.0.1")},
		"multicast":           {Subnet: prefix("224.0.1.0/24")},
		"loopback":            {Subnet: prefix("127.1.0.0/16")},
		"mapped":              {Subnet: prefix("::ffff:10.0.0.0/120")},
		"gateway outside":     {Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.1.1")},
		"range outside":       {Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.1.0/25")},
		"range larger":        {Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.0.0/23")},
		"range other family":  {Subnet: prefix("10.0.0.0/24"), Range: prefix("fd00::/80")},
		"auxiliary outside":   {Subnet: prefix("10.0.0.0/24"), Aux: map[string]netip.Addr{"r": addr("10.0.1.9")}},
		"auxiliary = gateway": {Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.9"), Aux: map[string]netip.Addr{"r": addr("10.0.0.9")}},
	} {
		if _, err := open(t, Config{}).TakePool(Request{Pool: p}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	a := open(t, Config{})
	p := take(t, a, Request{Pool: network.Pool{
		Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.16/30"), Aux: map[string]netip.Addr{"nas": addr("10.1.0.18")}}})
	if p.Gateway != addr("10.1.0.16") {
		t.Fatal(p.Gateway)
	}
	next := func(want string) {
		t.Helper()
		got, err := a.Take(p.Subnet, netip.Addr{})
		if err != nil || got.String() != want {
			t.Fatalf("got %s, %v; want %s", got, err, want)
		}
	}
	next("10.1.0.17/24")
	a.Release(p.Subnet, addr("10.1.0.17"))
	next("10.1.0.19/24") // in turn, though .17 is free
	next("10.1.0.17/24")
	if _, err := a.Take(p.Subnet, netip.Addr{}); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Fatal(err)
	}
	if _, err := a.Take(p.Subnet, addr("10.1.0.200")); err != nil {
		t.Fatal(err)
	}
	for want, bad := range map[error][]string{
		errdefs.ErrAlreadyExists:   {"10.1.0.200", "10.1.0.16", "10.1.0.18"},
		errdefs.ErrInvalidArgument: {"10.1.0.0", "10.1.0.255", "10.1.1.1", "fd00::1"},
	} {
		for _, x := range bad {
			if _, err := a.Take(p.Subnet, addr(x)); !errors.Is(err, want) {
				t.Errorf("%s: %v", x, err)
			}
		}
	}
	a.Release(p.Subnet, p.Gateway)
	if _, err := a.Take(p.Subnet, p.Gateway); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Error("the gateway was given away")
	}
	if err := a.ReleasePool(p.Subnet); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Error(err)
	}
}

// TestHuge takes addresses from both ends of a /64 and a /8 in no time and space.
func TestHuge(t *testing.T) {
	a := open(t, Config{})
	for _, subnet := range []string{"fd00:1::/64", "10.0.0.0/8"} {
		p := take(t, a, Request{Pool: network.Pool{Subnet: prefix(subnet)}})
		last := lastOf(p.Subnet).Prev()
		if _, err := a.Take(p.Subnet, last); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if _, err := a.Take(p.Subnet, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := a.Export()
	if err != nil || len(data) > 1000 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
}

// TestRandom plays takes, releases and restarts beside a plain map.
func TestRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		a := open(t, Config{})
		p := take(t, a, Request{Pool: network.Pool{Subnet: prefix("10.9.0.0/26")}})
		model := map[netip.Addr]bool{p.Gateway: true}
		for range 600 {
			step(t, r, a, p, model)
			if r.IntN(40) == 0 {
				data, err := a.Export()
				if err != nil {
					t.Fatal(err)
				}
				a = open(t, Config{})
				if err := a.Import(data); err != nil {
					t.Fatal(err)
				}
			}
		}
		for x := p.Subnet.Addr(); p.Subnet.Contains(x); x = x.Next() {
			if got := a.pools[p.Subnet].Used.has(x); got != model[x] {
				t.Fatalf("seed %d: %s is %v, want %v", seed, x, got, model[x])
			}
		}
	}
}

func step(t *testing.T, r *rand.Rand, a *Allocator, p network.Pool, model map[netip.Addr]bool) {
	t.Helper()
	some := netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + r.IntN(62))})
	switch r.IntN(4) {
	case 0, 1:
		got, err := a.Take(p.Subnet, netip.Addr{})
		if full := len(model) == 62; full != (err != nil) {
			t.Fatalf("%d taken: %v", len(model), err)
		}
		if err == nil && model[got.Addr()] {
			t.Fatalf("%s given twice", got)
		}
		if err == nil {
			model[got.Addr()] = true
		}
	case 2:
		if _, err := a.Take(p.Subnet, some); (err != nil) != model[some] {
			t.Fatalf("%s: %v", some, err)
		}
		model[some] = true
	case 3:
		a.Release(p.Subnet, some)
		if some != p.Gateway {
			delete(model, some)
		}
	}
}

func TestKeep(t *testing.T) {
	a := open(t, Config{})
	p := take(t, a, Request{})
	gone := take(t, a, Request{})
	for range 3 {
		if _, err := a.Take(p.Subnet, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
	a.Keep(map[netip.Prefix][]netip.Addr{p.Subnet: {addr("172.17.0.3"), addr("172.17.0.9")}})
	want := map[string]bool{"172.17.0.1": true, "172.17.0.2": false, "172.17.0.3": true, "172.17.0.4": false, "172.17.0.9": true}
	for x, taken := range want {
		if a.pools[p.Subnet].Used.has(addr(x)) != taken {
			t.Errorf("%s: want %v", x, taken)
		}
	}
	if q := take(t, a, Request{}); q.Subnet != gone.Subnet {
		t.Errorf("the dead subnet wasn't released: %s", q.Subnet)
	}
}

// FuzzImport: whatever the database holds, what is imported keeps its promises.
func FuzzImport(f *testing.F) {
	a, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := a.TakePool(Request{}); err != nil {
		f.Fatal(err)
	}
	data, err := a.Export()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"local":"fd00::/48","pools":[{"subnet":"10.0.0.0/30","range":"10.0.0.0/30","used":"10.0.0.1-10.0.0.2","fixed":"","last":""}]}`))
	f.Add([]byte(`{"local":"fd00::/48","pools":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Import(data) != nil {
			return
		}
		for subnet := range a.pools {
			x, err := a.Take(subnet, netip.Addr{})
			if err == nil && (!subnet.Contains(x.Addr()) || !a.pools[subnet].Used.has(x.Addr())) {
				t.Fatalf("%s of %s", x, subnet)
			}
		}
		out, err := a.Export()
		if err != nil || !json.Valid(out) {
			t.Fatal(err)
		}
		if err := open(t, Config{}).Import(out); err != nil {
			t.Fatalf("own export refused: %v\n%s", err, out)
		}
	})
}
