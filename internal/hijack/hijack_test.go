package hijack_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/orlop/orlop/internal/hijack"
)

// Who reads the head late must find nothing but the head.
func TestAfterHead(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "head")
		c = hijack.AfterHead(c)
		io.WriteString(c, "first")
		io.WriteString(c, "second")
	}()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(5 * time.Millisecond)
	buf := make([]byte, 100)
	if n, err := c.Read(buf); string(buf[:n]) != "head" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if rest, err := io.ReadAll(c); string(rest) != "firstsecond" {
		t.Fatalf("%q, %v", rest, err)
	}
}
