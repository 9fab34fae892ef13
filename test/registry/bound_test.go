package registry

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// bounds is a config with such bounds.
func bounds(text string) string {
	return "[plugins.\"io.containerd.server.v1.registry\".bounds]\n" + text
}

// dial connects, and sends some text.
func (d *daemon) dial(text string) net.Conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		d.t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	return c
}

// begin starts an upload and returns where it goes on.
func (d *daemon) begin() string {
	d.t.Helper()
	code, header, text := d.ask("POST", "/v2/a/box/blobs/uploads/", nil)
	if code != http.StatusAccepted {
		d.t.Fatalf("%d %s", code, text)
	}
	return header.Get("Location")
}

// standing is the Range that the registry tells of an upload.
func (d *daemon) standing(where string) string {
	d.t.Helper()
	_, header, _ := d.ask("GET", where, nil)
	return header.Get("Range")
}

// Who connects and sends nothing, or a header that never ends, is put out.
func TestSilentClients(t *testing.T) {
	d := serve(t, bounds(`stall = "1s"`))
	for _, text := range []string{"", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"} {
		if _, err := io.ReadAll(d.dial(text)); err != nil {
			t.Errorf("after %q the connection stays: %v", text, err)
		}
	}
}

// An upload that stands still, or drips, is given up, and what came of it stays; one
// that is slow goes on for as long as it takes.
func TestUploadThatStandsStill(t *testing.T) {
	d := serve(t, bounds(`stall = "1s"`))
	for name, drip := range map[string]time.Duration{"still": time.Hour, "drip": 100 * time.Millisecond} {
		where := d.begin()
		c := d.dial(fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n0123456789", where))
		ended := make(chan struct{})
		go func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(drip):
					io.WriteString(c, "x")
				}
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		close(ended)
		if err != nil || res.StatusCode != http.StatusRequestTimeout {
			t.Fatalf("%s: %v %v", name, res, err)
		}
		if at := d.standing(where); !strings.HasPrefix(at, "0-") || at == "0-0" {
			t.Errorf("%s: the upload stands at %q", name, at)
		}
	}
	where, piece := d.begin(), bytes.Repeat([]byte("orlop"), 8<<10)
	body, in := io.Pipe()
	go func() {
		for range 12 {
			time.Sleep(250 * time.Millisecond)
			in.Write(piece)
		}
		in.Close()
	}()
	if code, _, text := d.ask("PATCH", where, body); code != http.StatusAccepted {
		t.Fatalf("a slow upload: %d %s", code, text)
	}
	if at, want := d.standing(where), fmt.Sprintf("0-%d", 12*len(piece)-1); at != want {
		t.Errorf("the slow upload stands at %q, want %q", at, want)
	}
}

// Who doesn't take what they asked for is put out; who takes it slowly gets it.
func TestPullThatStandsStill(t *testing.T) {
	d := serve(t, bounds(`stall = "1s"`))
	data := bytes.Repeat([]byte("orlop---"), 4<<20) // 32 MiB: more than all buffers on the way
	dgst := digest.FromBytes(data).String()
	if code, _, text := d.ask("POST", "/v2/a/box/blobs/uploads/?digest="+dgst, bytes.NewReader(data)); code != http.StatusCreated {
		t.Fatalf("%d %s", code, text)
	}
	ask := fmt.Sprintf("GET /v2/a/box/blobs/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", dgst)
	c := d.dial(ask)
	time.Sleep(4 * time.Second)
	got, err := io.ReadAll(c)
	if len(got) >= len(data) {
		t.Errorf("after 4 seconds all of it was still to be had: %v", err)
	}
	c = d.dial(ask)
	total := 0
	for buf := make([]byte, 2<<20); ; time.Sleep(200 * time.Millisecond) {
		n, err := io.ReadFull(c, buf)
		if total += n; err != nil {
			break
		}
	}
	if total < len(data) {
		t.Errorf("%d of %d bytes came to a slow client", total, len(data))
	}
}

func TestConnections(t *testing.T) {
	d := serve(t, bounds("connections_of_one = 4\n"))
	const hello = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
	answered := func(c net.Conn) bool {
		_, err := bufio.NewReader(c).ReadString('\n')
		return err == nil
	}
	var open []net.Conn
	for len(open) < 4 {
		if c := d.dial(hello); answered(c) { // that of serve may still be counted
			open = append(open, c)
		}
	}
	for range 3 {
		c, err := net.Dial("tcp", d.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, hello) // may meet the end of the connection
		if answered(c) {
			t.Fatal("a fifth connection is served")
		}
	}
	open[0].Close()
	eventually(t, "there is room for another", func() bool {
		c, err := net.Dial("tcp", d.address)
		if err != nil {
			return false
		}
		defer c.Close()
		io.WriteString(c, hello)
		return answered(c)
	})
}

func TestUploadsOfOneClient(t *testing.T) {
	d := serve(t, bounds("uploads = 2\nopen = 3\n"))
	var places []string
	for range 3 {
		places = append(places, d.begin())
	}
	if code, header, _ := d.ask("POST", "/v2/a/box/blobs/uploads/", nil); code != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("a fourth upload: %d", code)
	}
	if code, _, _ := d.ask("DELETE", places[2], nil); code != http.StatusNoContent {
		t.Errorf("cancel: %d", code)
	}
	d.begin()
	for _, where := range places[:2] {
		c := d.dial(fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", where))
		if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if code, _, _ := d.ask("PUT", "/v2/a/box/manifests/1", strings.NewReader("{}")); code != http.StatusTooManyRequests {
		t.Errorf("a third request with a body: %d", code)
	}
	if code, _, _ := d.ask("GET", "/v2/", nil); code != http.StatusOK {
		t.Errorf("reading: %d", code)
	}
}
