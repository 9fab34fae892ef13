package proxy

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func dial(t *testing.T, a net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func to(a net.Addr) Config { return Config{To: netip.MustParseAddrPort(a.String())} }

// leaks fails the test if it leaves goroutines of this package.
func leaks(t *testing.T) {
	t.Cleanup(func() {
		buf := make([]byte, 1<<20)
		var stacks string
		for range 1000 { // one that has said that it ends may still be on its way out
			stacks = string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(stacks, "(*Proxy)") && !strings.Contains(stacks, "(*datagrams)") {
				return
			}
			runtime.Gosched()
		}
		t.Error(stacks)
	})
}

// TestHalfClose: the server answers only when the client has said all, by half-close;
// the answer is whole.
func TestHalfClose(t *testing.T) {
	leaks(t)
	server, front := listen(t), listen(t)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				all, _ := io.ReadAll(c)
				_, _ = c.Write(all)
				c.Close()
			}()
		}
	}()
	p := TCP(front, to(server.Addr()))
	defer p.Close()
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	for range 3 {
		c := dial(t, front.Addr())
		go func() {
			_, _ = c.Write(data)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(data), err)
		}
	}
}

// TestCloseEndsConnections that are in the middle of something.
func TestCloseEndsConnections(t *testing.T) {
	leaks(t)
	server, front := listen(t), listen(t)
	p := TCP(front, to(server.Addr()))
	c := dial(t, front.Addr())
	s, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("still connected")
	}
	if _, err := net.Dial("tcp", front.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

// TestLimit: one too many waits until another is gone.
func TestLimit(t *testing.T) {
	leaks(t)
	server, front := listen(t), listen(t)
	config := to(server.Addr())
	config.Limit = 1
	p := TCP(front, config)
	defer p.Close()
	first, second := dial(t, front.Addr()), dial(t, front.Addr())
	s, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, _ := server.Accept()
		accepted <- c
	}()
	if _, err := second.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-accepted:
		t.Fatal("two at once")
	case <-time.After(50 * time.Millisecond): // an early pass can't fail a good proxy
	}
	first.Close()
	s.Close()
	(<-accepted).Close()
}

func TestRefusals(t *testing.T) {
	leaks(t)
	server, front := listen(t), listen(t)
	config := to(server.Addr())
	config.Allow = func(a netip.Addr) bool { return !a.IsLoopback() }
	p := TCP(front, config)
	defer p.Close()
	if n, err := dial(t, front.Addr()).Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a refused client was served")
	}
	gone := listen(t)
	gone.Close()
	other := listen(t)
	q := TCP(other, to(gone.Addr()))
	defer q.Close()
	c, err := net.Dial("tcp", other.Addr().String())
	if err != nil {
		return // the reset was faster
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("nobody listens, and something answered")
	}
}

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestDatagrams: each client gets its own answers, also when there are more of them
// than places.
func TestDatagrams(t *testing.T) {
	leaks(t)
	server, front := udp(t), udp(t)
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			slices.Reverse(buf[:n])
			_, _ = server.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	config := to(server.LocalAddr())
	config.Limit = 4
	p := UDP(front, config)
	defer p.Close()
	for i := range 20 {
		c, err := net.Dial("udp", front.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 1+i*700)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, maxDatagram)
		n, err := c.Read(got)
		slices.Reverse(want)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Fatalf("client %d: %d bytes, %v", i, n, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) > 2*config.Limit {
		t.Errorf("%d sockets for %d clients", len(p.conns), config.Limit)
	}
}

// TestQuietClients are forgotten.
func TestQuietClients(t *testing.T) {
	leaks(t)
	server, front := udp(t), udp(t)
	config := to(server.LocalAddr())
	config.Idle = 10 * time.Millisecond
	p := UDP(front, config)
	defer p.Close()
	c, err := net.Dial("udp", front.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.ReadFrom(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for {
		p.mu.Lock()
		n := len(p.conns)
		p.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
