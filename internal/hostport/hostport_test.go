package hostport_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/hostport"
)

func TestSockets(t *testing.T) {
	agent, mine, err := hostport.Pair()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hostport.Serve(agent) }()
	c := hostport.NewClient(mine)
	any4 := netip.MustParseAddrPort("127.0.0.1:0")
	l, err := c.ListenTCP("tcp4", any4)
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := c.ListenTCP("tcp4", at); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port that is taken: %v", err)
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); string(text) != "hello" {
		t.Error(string(text), err)
	}
	if err := errors.Join(conn.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if again, err := c.ListenTCP("tcp4", at); err != nil {
		t.Errorf("a port that was given back: %v", err)
	} else {
		again.Close()
	}
	u, err := c.ListenUDP("udp4", any4)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	if _, err := c.ListenTCP("sctp", any4); err == nil {
		t.Error("a network that there isn't is given")
	}
	mine.Close()
	if err := <-served; err != nil {
		t.Errorf("the agent's end: %v", err)
	}
	if _, err := c.ListenTCP("tcp4", any4); err == nil {
		t.Error("a client that was closed gives sockets")
	}
}
