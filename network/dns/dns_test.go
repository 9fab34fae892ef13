package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// upstream is a server of others, which counts what it is asked.
type upstream struct {
	asked atomic.Int32
	// before may answer or forge in the server's stead.
	before func(w dns.ResponseWriter, q *dns.Msg) bool
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	u.asked.Add(1)
	if u.before != nil && u.before(w, q) {
		return
	}
	a := new(dns.Msg)
	a.SetReply(q)
	switch name := q.Question[0].Name; {
	case strings.HasPrefix(name, "big."):
		for i := range 100 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 198.51.100.%d", name, i))
			a.Answer = append(a.Answer, rr)
		}
		if w.LocalAddr().Network() == "udp" {
			a.Truncate(dns.MinMsgSize)
		}
	case strings.HasPrefix(name, "none."):
		a.Rcode = dns.RcodeNameError
	default:
		rr, _ := dns.NewRR(name + " 60 IN A 198.51.100.1")
		a.Answer = append(a.Answer, rr)
	}
	_ = w.WriteMsg(a)
}

// serve starts the upstream on port 53 of a place's address.
func (u *upstream) serve(t *testing.T, p *networktest.Place, address string) {
	t.Helper()
	var (
		pc net.PacketConn
		l  net.Listener
	)
	err := p.NS.Do(func() (err error) {
		if pc, err = net.ListenPacket("udp", address+":53"); err == nil {
			l, err = net.Listen("tcp", address+":53")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	u.start(t, pc, l)
}

// start serves until the test ends.
func (u *upstream) start(t *testing.T, pc net.PacketConn, l net.Listener) {
	t.Helper()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: u}, {Listener: l, Handler: u}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

type rig struct {
	*testing.T
	sandbox, out *networktest.Place
	table        *Table
	up           *upstream
}

var (
	home = network.Network{ID: "aaaaaaaaaaaa", Name: "Home"}
	side = network.Network{ID: "bbbbbbbbbbbb", Name: "side", Internal: true}
)

func endpoint(id string, n network.Network, sandbox string, addresses []string, names ...string) network.Endpoint {
	e := network.Endpoint{ID: id, Network: n.ID, Sandbox: sandbox, Names: names}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParsePrefix(a))
	}
	return e
}

func newRig(t *testing.T, before func(dns.ResponseWriter, *dns.Msg) bool) *rig {
	r := &rig{T: t, sandbox: networktest.NewPlace(t), out: networktest.NewPlace(t), table: NewTable(), up: &upstream{before: before}}
	networktest.Join(r.sandbox, r.out, [2]string{"eth0", "eth0"}, [2][]string{{"10.0.0.2/24"}, {"10.0.0.9/24"}})
	r.up.serve(t, r.out, "10.0.0.9")
	r.table.Add(home, endpoint("1", home, r.sandbox.Path, []string{"10.0.0.2/24"}, "me"))
	r.table.Add(home, endpoint("2", home, "elsewhere", []string{"10.0.0.3/24", "fd00::3/64"}, "web", "0123456789ab", "WWW"))
	r.table.Add(home, endpoint("3", home, "elsewhere3", []string{"10.0.0.4/24"}, "web2", "www"))
	r.table.Add(side, endpoint("4", side, "elsewhere4", []string{"10.1.0.4/24"}, "secret"))
	return r
}

func (r *rig) open(c Config) *Resolver {
	r.Helper()
	c.Sandbox, c.Table = r.sandbox.Path, r.table
	if c.Upstream == nil {
		c.Upstream = these(netip.MustParseAddrPort("10.0.0.9:53"))
	}
	x, err := Open(c)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { x.Close() })
	return x
}

// these are asked from the sandbox.
func these(up ...netip.AddrPort) func() []Server {
	var out []Server
	for _, a := range up {
		out = append(out, Server{Address: a})
	}
	return func() []Server { return out }
}

// ask asks from within the sandbox, at port 53.
func (r *rig) ask(protocol, name string, kind uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	var a *dns.Msg
	err := r.sandbox.NS.Do(func() (err error) {
		c := &dns.Client{Net: protocol, Timeout: 10 * time.Second}
		var conn *dns.Conn
		if conn, err = c.Dial("127.0.0.11:53"); err != nil {
			return err
		}
		defer conn.Close()
		a, _, err = c.ExchangeWithConn(q, conn)
		return err
	})
	return a, err
}

func (r *rig) want(name string, kind uint16, want string) {
	r.Helper()
	for _, protocol := range []string{"udp", "tcp"} {
		a, err := r.ask(protocol, name, kind)
		if err != nil {
			r.Fatalf("%s %s: %v", protocol, name, err)
		}
		have := []string{dns.RcodeToString[a.Rcode]}
		for _, rr := range a.Answer {
			f := strings.Fields(rr.String())
			have = append(have, f[1]+" "+f[4])
		}
		// Their order is drawn.
		if len(have) == 3 && have[1] > have[2] {
			have[1], have[2] = have[2], have[1]
		}
		if got := strings.Join(have, ", "); got != want {
			r.Errorf("%s %s %s: %s, want %s", protocol, name, dns.TypeToString[kind], got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	r := newRig(t, nil)
	r.open(Config{})
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web", dns.TypeA, "NOERROR, 600 10.0.0.3"},
		{"WeB", dns.TypeA, "NOERROR, 600 10.0.0.3"},
		{"web.home", dns.TypeA, "NOERROR, 600 10.0.0.3"},
		{"0123456789ab", dns.TypeA, "NOERROR, 600 10.0.0.3"},
		{"web", dns.TypeAAAA, "NOERROR, 600 fd00::3"},
		{"web2", dns.TypeAAAA, "NOERROR"},
		{"web", dns.TypeMX, "NOERROR"},
		{"www", dns.TypeA, "NOERROR, 600 10.0.0.3, 600 10.0.0.4"},
		{"3.0.0.10.in-addr.arpa", dns.TypePTR, "NOERROR, 600 web.home."},
		{"3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, "NOERROR, 600 web.home."},
	} {
		r.want(c.name, c.kind, c.want)
	}
	if n := r.up.asked.Load(); n != 0 {
		t.Fatalf("the upstream was asked %d times for what is known here", n)
	}
	// Names of networks that it isn't connected to are none of its business.
	for _, name := range []string{"example.org", "secret", "secret.side", "web.side"} {
		r.want(name, dns.TypeA, "NOERROR, 60 198.51.100.1")
	}
	r.want("none.example.org", dns.TypeA, "NXDOMAIN")
	r.table.Remove(endpoint("2", home, "", nil))
	r.want("www", dns.TypeA, "NOERROR, 600 10.0.0.4")
	r.want("web", dns.TypeA, "NOERROR, 60 198.51.100.1")
}

// TestPrograms: what a shell in a container uses. Port 53 stays free.
func TestPrograms(t *testing.T) {
	r := newRig(t, nil)
	r.open(Config{})
	own := func() error {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 53})
		if err != nil {
			return err
		}
		t.Cleanup(func() { udp.Close() })
		tcp, err := net.Listen("tcp4", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { tcp.Close() })
		return nil
	}
	if err := r.sandbox.NS.Do(own); err != nil {
		t.Fatalf("port 53 isn't the sandbox's: %v", err)
	}
	out := r.sandbox.Run("busybox nslookup web 127.0.0.11")
	if !strings.Contains(out, "10.0.0.3") || !strings.Contains(out, "fd00::3") {
		t.Error(out)
	}
	if out := r.sandbox.Run("busybox nslookup example.org 127.0.0.11"); !strings.Contains(out, "198.51.100.1") {
		t.Error(out)
	}
}

// TestInternal: a sandbox with internal networks only doesn't have the host asked
// (CVE-2024-29018); with another network it does.
func TestInternal(t *testing.T) {
	r := newRig(t, nil)
	r.table.Remove(endpoint("1", home, "", nil))
	r.table.Add(side, endpoint("5", side, r.sandbox.Path, []string{"10.1.0.5/24"}, "me"))
	host := new(upstream)
	theirs := host.here(t)
	r.open(Config{Upstream: func() []Server { return []Server{theirs} }})
	r.want("secret", dns.TypeA, "NOERROR, 600 10.1.0.4")
	r.want("leak.example.org", dns.TypeA, "SERVFAIL")
	r.want("4.3.2.1.in-addr.arpa", dns.TypePTR, "SERVFAIL")
	if n := host.asked.Load(); n != 0 {
		t.Fatalf("%d questions went out", n)
	}
	r.table.Add(home, endpoint("1", home, r.sandbox.Path, []string{"10.0.0.2/24"}, "me"))
	r.want("leak.example.org", dns.TypeA, "NOERROR, 60 198.51.100.1")
	if host.asked.Load() == 0 {
		t.Fatal("the host was not asked")
	}
}

// here serves in the test's own namespace, which stands for the host's.
func (u *upstream) here(t *testing.T) Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	u.start(t, pc, l)
	return Server{Address: netip.MustParseAddrPort(pc.LocalAddr().String()), Host: true}
}

// TestOwnServer: a server of a sandbox's own network is asked, internal or not.
func TestOwnServer(t *testing.T) {
	r := newRig(t, nil)
	r.table.Remove(endpoint("1", home, "", nil))
	r.table.Add(side, endpoint("5", side, r.sandbox.Path, []string{"10.0.0.2/24"}, "me"))
	r.open(Config{})
	r.want("example.org", dns.TypeA, "NOERROR, 60 198.51.100.1")
}

// TestItself: a resolver that is told to ask itself doesn't.
func TestItself(t *testing.T) {
	r := newRig(t, nil)
	own := netip.AddrPortFrom(Address, 53)
	x := r.open(Config{Upstream: these(own), Timeout: 30 * time.Second})
	r.want("example.org", dns.TypeA, "SERVFAIL")
	x.Close()
	r.open(Config{Upstream: these(own, netip.MustParseAddrPort("10.0.0.9:53"))})
	r.want("example.org", dns.TypeA, "NOERROR, 60 198.51.100.1")
	if n := r.up.asked.Load(); n != 2 { // by UDP and TCP
		t.Errorf("asked %d times", n)
	}
}

// TestSpare: a spare server is asked where nobody answers, and not where somebody has
// refused to.
func TestSpare(t *testing.T) {
	refusing := new(upstream)
	refusing.before = func(w dns.ResponseWriter, q *dns.Msg) bool {
		_ = w.WriteMsg(refusal(q, dns.RcodeServerFailure))
		return true
	}
	theirs, spare := refusing.here(t), Server{Address: netip.MustParseAddrPort("10.0.0.9:53"), Spare: true}
	r := newRig(t, nil)
	x := r.open(Config{Upstream: func() []Server { return []Server{theirs, spare} }})
	r.want("example.org", dns.TypeA, "SERVFAIL")
	x.Close()
	nobody := Server{Address: netip.MustParseAddrPort("127.0.0.1:53")}
	r.open(Config{Upstream: func() []Server { return []Server{nobody, spare} }, Timeout: 200 * time.Millisecond})
	r.want("example.org", dns.TypeA, "NOERROR, 60 198.51.100.1")
}

// TestLarge: an answer that doesn't fit says so and comes whole by TCP.
func TestLarge(t *testing.T) {
	r := newRig(t, nil)
	r.open(Config{})
	a, err := r.ask("udp", "big.example.org", dns.TypeA)
	if err != nil || !a.Truncated {
		t.Fatalf("%v, %v", a, err)
	}
	if a, err = r.ask("tcp", "big.example.org", dns.TypeA); err != nil || len(a.Answer) != 100 {
		t.Fatalf("%v, %v", a, err)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.0.1.%d/24", i))
	}
	r.table.Add(home, endpoint("9", home, "many", many, "many"))
	if a, err = r.ask("udp", "many", dns.TypeA); err != nil || !a.Truncated || len(a.Answer) == 0 {
		t.Fatalf("%v, %v", a, err)
	}
}

// TestForged: answers with another identity or to another question are passed over.
func TestForged(t *testing.T) {
	r := newRig(t, func(w dns.ResponseWriter, q *dns.Msg) bool {
		for _, spoil := range []func(*dns.Msg){
			func(m *dns.Msg) { m.Id++ },
			func(m *dns.Msg) { m.Question[0].Name = "else.example.org." },
			func(m *dns.Msg) { m.Response = false },
		} {
			a := new(dns.Msg)
			a.SetReply(q)
			rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 203.0.113.66")
			a.Answer = []dns.RR{rr}
			spoil(a)
			b, _ := a.Pack()
			_, _ = w.Write(b)
		}
		return false
	})
	r.open(Config{})
	a, err := r.ask("udp", "example.org", dns.TypeA)
	if err != nil || len(a.Answer) != 1 || !strings.Contains(a.Answer[0].String(), "198.51.100.1") {
		t.Fatalf("%v, %v", a, err)
	}
}

// TestUpstreams: one that is silent or refuses is followed by the next.
func TestUpstreams(t *testing.T) {
	r := newRig(t, nil)
	silent := netip.MustParseAddrPort("10.0.0.77:53")
	good := netip.MustParseAddrPort("10.0.0.9:53")
	x := r.open(Config{Upstream: these(silent, good), Timeout: 200 * time.Millisecond})
	r.want("example.org", dns.TypeA, "NOERROR, 60 198.51.100.1")
	x.Close()
	r.open(Config{Upstream: these(silent), Timeout: 50 * time.Millisecond})
	r.want("example.org", dns.TypeA, "SERVFAIL")
}

// TestLimit: what is too much at once is dropped; afterwards it answers as before.
func TestLimit(t *testing.T) {
	let := make(chan struct{})
	r := newRig(t, func(dns.ResponseWriter, *dns.Msg) bool { <-let; return false })
	x := r.open(Config{Limit: 4, Timeout: 30 * time.Second})
	var conn net.Conn
	if err := r.sandbox.NS.Do(func() (err error) { conn, err = net.Dial("udp", "127.0.0.11:53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 200 {
		q := new(dns.Msg)
		q.SetQuestion(fmt.Sprintf("q%d.example.org.", i), dns.TypeA)
		b, _ := q.Pack()
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for len(x.places) < 4 {
		time.Sleep(time.Millisecond)
	}
	close(let)
	r.up.asked.Store(0)
	for len(x.places) > 0 {
		time.Sleep(time.Millisecond)
	}
	r.want("web", dns.TypeA, "NOERROR, 600 10.0.0.3")
}

// TestClose ends questions that wait, and returns.
func TestClose(t *testing.T) {
	let := make(chan struct{})
	r := newRig(t, func(dns.ResponseWriter, *dns.Msg) bool { <-let; return false })
	defer close(let)
	x := r.open(Config{Timeout: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer cancel(); _, _ = r.ask("tcp", "slow.example.org", dns.TypeA) }()
	for len(x.places) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	<-ctx.Done()
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.", "web.home.", "3.0.0.10.in-addr.arpa.", "."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		q.SetEdns0(1232, true)
		b, _ := q.Pack()
		f.Add(b)
	}
	table := NewTable()
	table.Add(side, endpoint("1", side, "me", []string{"10.0.0.3/24"}, "web"))
	r := &Resolver{config: Config{Sandbox: "me", Table: table, Upstream: these()}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, stream := range []bool{false, true} {
			a := r.answer(b, stream)
			if a == nil {
				continue
			}
			var m dns.Msg
			if err := m.Unpack(a); err != nil || !m.Response || a[0] != b[0] || a[1] != b[1] {
				t.Fatalf("%v: % x", err, a)
			}
		}
		_ = answers(b, b)
		_, _ = addressOf(string(b))
	})
}
