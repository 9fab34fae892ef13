package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// echo serves a websocket that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r}
		ws, err := c.websocket()
		if err != nil {
			c.fail(err)
			return
		}
		defer ws.Close()
		io.Copy(ws, ws)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func dialEcho(t *testing.T, headers string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
	return conn, bufio.NewReader(conn)
}

const upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// masked makes a client's frame.
func masked(code byte, body []byte) []byte {
	b := []byte{0x80 | code}
	switch n := len(body); {
	case n <= wsControl:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i, c := range body {
		b = append(b, c^mask[i&3])
	}
	return b
}

// unmasked reads a server's frame.
func unmasked(t *testing.T, r *bufio.Reader) (code byte, body []byte) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	n := uint64(head[1])
	var long [8]byte
	switch n {
	case 126:
		io.ReadFull(r, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case 127:
		io.ReadFull(r, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return head[0] & 0xf, body
}

func TestWebsocket(t *testing.T) {
	conn, r := dialEcho(t, upgrade)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455's example
		t.Fatalf("%v, %v", resp, err)
	}
	for _, n := range []int{1, wsControl, wsControl + 1, 1 << 16, 100_000} {
		want := bytes.Repeat([]byte("ab7"), n)[:n]
		go conn.Write(masked(wsText, want))
		var got []byte
		for len(got) < n {
			code, body := unmasked(t, r)
			if code != wsBinary {
				t.Fatalf("a frame of kind %d", code)
			}
			got = append(got, body...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back as %d others", n, len(got))
		}
	}
	conn.Write(append(masked(wsPing, []byte("hi")), masked(wsContinued, []byte("x"))...))
	if code, body := unmasked(t, r); code != wsPong || string(body) != "hi" {
		t.Errorf("a ping is answered by %d %q", code, body)
	}
	unmasked(t, r)
	conn.Write(masked(wsClose, []byte{3, 232}))
	if code, body := unmasked(t, r); code != wsClose || !bytes.Equal(body, []byte{3, 232}) {
		t.Errorf("a close is answered by %d % x", code, body)
	}
}

func TestNoWebsocket(t *testing.T) {
	for name, tt := range map[string]struct {
		headers string
		status  int
	}{
		"plain":   {"", 400},
		"version": {strings.Replace(upgrade, "13", "8", 1), 426},
		"no key":  {strings.Replace(upgrade, "Sec-WebSocket-Key", "X", 1), 400},
	} {
		_, r := dialEcho(t, tt.headers)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	conn, r := dialEcho(t, upgrade)
	http.ReadResponse(r, nil)
	conn.Write([]byte{0x82, 1, 'x'}) // not masked: it could be anybody's
	if code, _ := unmasked(t, r); code != wsClose {
		t.Errorf("a frame that is not masked is answered by %d", code)
	}
}
