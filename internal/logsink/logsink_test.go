package logsink

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/internal/logfile"
)

var about = About{ID: strings.Repeat("0123456789abcdef", 4), Name: "web", Image: "box", ImageID: "sha256:aa", Command: "sh -c x", Tag: "the-tag",
	Host: "host", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

func open(t *testing.T, driver string, opts map[string]string) *Sink {
	t.Helper()
	c := &Config{Driver: driver, Options: opts, About: about, Attrs: map[string]string{"com.label": "v"}}
	s, err := Open(c, func(err error) { t.Logf("%s: %v", driver, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(0) })
	return s
}

func entry(text string, stream logfile.Stream) logfile.Entry {
	return logfile.Entry{Line: []byte(text), Stream: stream, Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)}
}

func packet(t *testing.T, c net.PacketConn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64<<10)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func listenUDP(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listen(t *testing.T, network, at string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c)
}

func TestSyslogFormats(t *testing.T) {
	const pid = `\d+`
	for format, want := range map[string]string{
		"":             `<30>2026-01-02T03:04:05Z host the-tag\[` + pid + `\]: out\n`,
		"rfc3164":      `<30>Jan  2 03:04:05 host the-tag\[` + pid + `\]: out\n`,
		"rfc5424":      `<30>1 2026-01-02T03:04:05Z host the-tag ` + pid + ` the-tag - out\n`,
		"rfc5424micro": `<30>1 2026-01-02T03:04:05.678901Z host the-tag ` + pid + ` the-tag - out\n`,
	} {
		c := listenUDP(t)
		s := open(t, "syslog", map[string]string{"syslog-address": "udp://" + c.LocalAddr().String(), "syslog-format": format})
		s.Write(entry("out\n", logfile.Stdout))
		if got := packet(t, c); !regexp.MustCompile("^" + want + "$").Match(got) {
			t.Errorf("%q: %q, want %s", format, got, want)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	c, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := open(t, "syslog", map[string]string{"syslog-address": "unixgram://" + path, "syslog-facility": "local7"})
	s.Write(entry("err\n", logfile.Stderr))
	if got := packet(t, c); !regexp.MustCompile(`^<187>Jan  2 03:04:05 the-tag\[\d+\]: err\n$`).Match(got) {
		t.Errorf("local: %q", got)
	}
}

// A collector that goes away and comes back gets what was printed meanwhile.
func TestReconnect(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	at := l.Addr().String()
	s := open(t, "syslog", map[string]string{"syslog-address": "tcp://" + at, "syslog-format": "rfc3164"})
	s.Write(entry("one\n", logfile.Stdout))
	conn, r := accept(t, l)
	if text, err := r.ReadString('\n'); err != nil || !strings.HasSuffix(text, ": one\n") {
		t.Fatalf("%q, %v", text, err)
	}
	l.Close()
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	for i := range 20 {
		s.Write(entry(fmt.Sprintf("meanwhile %d\n", i), logfile.Stdout))
		time.Sleep(time.Millisecond)
	}
	_, r = accept(t, listen(t, "tcp", at))
	seen := ""
	for !strings.Contains(seen, ": meanwhile 19\n") {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", seen, err)
		}
		seen += text
	}
	if n := strings.Count(seen, "meanwhile"); n < 18 { // the first may have gone with the connection
		t.Errorf("%d lines of 20 arrived", n)
	}
}

// A sink that is absent holds nobody up, whatever the mode; nor does one that is slow, if
// it may not.
func TestNobodyIsHeldUp(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0") // accepts, and nobody reads
	for name, opts := range map[string]map[string]string{
		"absent": {"syslog-address": "tcp://127.0.0.1:1"},
		"slow":   {"syslog-address": "tcp://" + l.Addr().String(), "mode": "non-blocking"},
	} {
		opts["max-buffer-size"] = "10k"
		s := open(t, "syslog", opts)
		done := make(chan struct{})
		go func() {
			for range 5000 {
				s.Write(entry(strings.Repeat("x", 4000)+"\n", logfile.Stdout))
			}
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: who prints is held up", name)
		}
		if s.q.Dropped() == 0 && name == "absent" {
			t.Errorf("%s: nothing was dropped", name)
		}
		if size := s.q.size; size > 10<<10+5000 {
			t.Errorf("%s: %d bytes wait", name, size)
		}
	}
}

// One that blocks loses nothing, though its reader is slow.
func TestBlocking(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	s := open(t, "syslog", map[string]string{"syslog-address": "tcp://" + l.Addr().String(), "max-buffer-size": "1k"})
	go func() {
		for i := range 2000 {
			s.Write(entry(fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 5000)), logfile.Stdout))
		}
		s.Close(10 * time.Second)
	}()
	_, r := accept(t, l)
	for i := range 2000 {
		text, err := r.ReadString('\n')
		if err != nil || !strings.Contains(text, fmt.Sprintf(": %d xx", i)) {
			t.Fatalf("line %d is %.80q: %v", i, text, err)
		}
		if i%500 == 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func TestGELF(t *testing.T) {
	long := strings.Repeat("0123456789 random? ", 700)
	unpack := map[string]func(io.Reader) (io.ReadCloser, error){
		"":     func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
		"zlib": zlib.NewReader,
		"none": func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil },
	}
	for kind, reader := range unpack {
		c := listenUDP(t)
		opts := map[string]string{"gelf-address": "udp://" + c.LocalAddr().String()}
		if kind != "" {
			opts["gelf-compression-type"] = kind
		}
		s := open(t, "gelf", opts)
		for _, text := range []string{"hello\n", long + "\n"} {
			s.Write(entry(text, logfile.Stderr))
			r, err := reader(bytes.NewReader(gelfMessage(t, c)))
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			var m map[string]any
			if err := json.NewDecoder(r).Decode(&m); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if m["short_message"] != strings.TrimSpace(text)+strings.Repeat(" ", len(text)-1-len(strings.TrimSpace(text))) || m["level"] != 3.0 ||
				m["timestamp"] != 1767323045.678 || m["_container_name"] != "web" || m["_com.label"] != "v" || m["version"] != "1.1" || m["host"] != "host" {
				t.Errorf("%s: %v", kind, m)
			}
		}
	}
	l := listen(t, "tcp", "127.0.0.1:0")
	s := open(t, "gelf", map[string]string{"gelf-address": "tcp://" + l.Addr().String()})
	s.Write(entry("one\n", logfile.Stdout))
	s.Write(entry("\n", logfile.Stdout)) // nothing is no message
	s.Write(entry("two\n", logfile.Stdout))
	_, r := accept(t, l)
	for _, want := range []string{"one", "two"} {
		text, err := r.ReadString(0)
		if err != nil || !strings.Contains(text, `"short_message":"`+want+`"`) || !json.Valid([]byte(strings.TrimRight(text, "\x00"))) {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// gelfMessage puts the chunks of a message together.
func gelfMessage(t *testing.T, c net.PacketConn) []byte {
	t.Helper()
	b := packet(t, c)
	if b[0] != 0x1e || b[1] != 0x0f {
		return b
	}
	parts := make([][]byte, b[11])
	for {
		if len(b) > gelfPacket {
			t.Errorf("a packet has %d bytes", len(b))
		}
		parts[b[10]] = b[gelfHeader:]
		whole := true
		for _, p := range parts {
			whole = whole && p != nil
		}
		if whole {
			return bytes.Join(parts, nil)
		}
		b = packet(t, c)
	}
}

// unpack reads a value of MessagePack.
func unpackValue(t *testing.T, r *bufio.Reader) any {
	t.Helper()
	c, err := r.ReadByte()
	if err != nil {
		t.Fatal(err)
	}
	take := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	number := func(n int) (v int) {
		for _, b := range take(n) {
			v = v<<8 | int(b)
		}
		return v
	}
	object := func(n int) map[string]any {
		m := map[string]any{}
		for range n {
			key := unpackValue(t, r).(string)
			m[key] = unpackValue(t, r)
		}
		return m
	}
	switch {
	case c&0xf0 == 0x90:
		var out []any
		for range int(c & 0xf) {
			out = append(out, unpackValue(t, r))
		}
		return out
	case c&0xf0 == 0x80:
		return object(int(c & 0xf))
	case c == 0xde:
		return object(number(2))
	case c&0xe0 == 0xa0:
		return string(take(int(c & 0x1f)))
	case c >= 0xd9 && c <= 0xdb:
		return string(take(number(1 << (c - 0xd9))))
	case c == 0xcf:
		return number(8)
	case c == 0xd7 && number(1) == 0:
		return fmt.Sprintf("%d.%09d", number(4), number(4))
	}
	t.Fatalf("0x%02x begins nothing that was expected", c)
	return nil
}

func TestFluentd(t *testing.T) {
	l := listen(t, "unix", filepath.Join(t.TempDir(), "s"))
	s := open(t, "fluentd", map[string]string{"fluentd-address": "unix://" + l.Addr().String()})
	s.Write(entry("out\n", logfile.Stdout))
	_, r := accept(t, l)
	want := fmt.Sprintf("[the-tag 1767323045 map[com.label:v container_id:%s container_name:/web log:out source:stdout]]", about.ID)
	if got := fmt.Sprint(unpackValue(t, r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	long := strings.Repeat("x", logfile.MaxLine)
	s.Write(entry(long, logfile.Stderr))
	m := unpackValue(t, r).([]any)[2].(map[string]any)
	if m["log"] != long || m["source"] != "stderr" || m["partial_message"] != "true" {
		t.Errorf("a part is %.200v", m)
	}
}

// A line that was not confirmed is sent again.
func TestFluentdConfirmation(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	s := open(t, "fluentd", map[string]string{"fluentd-address": l.Addr().String(), "fluentd-request-ack": "true", "fluentd-sub-second-precision": "true"})
	s.Write(entry("one\n", logfile.Stdout))
	s.Write(entry("two\n", logfile.Stdout))
	conn, r := accept(t, l)
	first := unpackValue(t, r).([]any)
	if first[1] != "1767323045.678901234" {
		t.Errorf("time %v", first[1])
	}
	conn.Close() // before it says so
	conn, r = accept(t, l)
	for _, want := range []string{"one", "two"} {
		m := unpackValue(t, r).([]any)
		if got := m[2].(map[string]any)["log"]; got != want {
			t.Fatalf("got %v, want %s", got, want)
		}
		chunk := m[3].(map[string]any)["chunk"].(string)
		conn.Write(packString(packString(packMap(nil, 1), "ack"), chunk))
	}
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		driver string
		opts   map[string]string
	}{
		{"nosuch", nil}, {"syslog", map[string]string{"x": "y"}}, {"syslog", map[string]string{"syslog-address": "ftp://x"}},
		{"syslog", map[string]string{"syslog-address": "tcp://"}}, {"syslog", map[string]string{"syslog-address": "unix://relative"}},
		{"syslog", map[string]string{"syslog-facility": "nosuch"}}, {"syslog", map[string]string{"syslog-facility": "24"}},
		{"syslog", map[string]string{"syslog-format": "rfc1"}}, {"syslog", map[string]string{"mode": "sometimes"}},
		{"syslog", map[string]string{"max-buffer-size": "-5"}}, {"gelf", nil}, {"gelf", map[string]string{"gelf-address": "http://x"}},
		{"syslog", map[string]string{"syslog-address": "tcp+tls://x", "syslog-tls-ca-cert": "/nosuch"}},
		{"gelf", map[string]string{"gelf-address": "tcp://x", "gelf-compression-type": "gzip"}},
		{"gelf", map[string]string{"gelf-address": "udp://x", "gelf-compression-level": "10"}},
		{"gelf", map[string]string{"gelf-address": "udp://x", "gelf-tcp-max-reconnect": "3"}},
		{"fluentd", map[string]string{"fluentd-async": "perhaps"}}, {"fluentd", map[string]string{"fluentd-retry-wait": "x"}},
		{"journald", map[string]string{"journald-address": "tcp://x:1"}},
	} {
		if err := Check(&Config{Driver: tt.driver, Options: tt.opts}); err == nil {
			t.Errorf("%s %v is taken", tt.driver, tt.opts)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0x81, 0xa3, 'a', 'c', 'k', 0xa1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		if _, err := readMap(r); err == nil {
			readString(r)
		}
	})
}
