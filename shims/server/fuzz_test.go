package server

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"github.com/orlop/orlop/shims"
)

// methods are what a client may call.
var methods = []string{"State", "Create", "Start", "Delete", "Pids", "Pause", "Resume", "Checkpoint", "Kill", "Exec",
	"ResizePty", "CloseIO", "Update", "Wait", "Stats", "Connect", "Adopt", "Nonsense"}

// request is a whole frame of a call whose payload is anything.
func request(method string, payload []byte) []byte {
	service := shims.ServiceV3
	if method == "Adopt" {
		service = shims.ServiceAdopt
	}
	body, err := proto.Marshal(&ttrpc.Request{Service: service, Method: method, Payload: payload, TimeoutNano: int64(time.Second)})
	if err != nil {
		return nil
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	frame = binary.BigEndian.AppendUint32(frame, 1) // stream
	return append(append(frame, 1, 0), body...)     // a request without flags
}

// FuzzMessages sends the shim calls with payloads of any kind, and bytes that are
// no frames. It must answer or hang up, and serve the next connection.
func FuzzMessages(f *testing.F) {
	f.Add(uint8(0), []byte{0x0a, 1, 'x'}, false)
	f.Add(uint8(1), []byte{0x0a, 1, 'x', 0x12, 0}, false)
	f.Add(uint8(9), []byte{0x0a, 1, 'x', 0x12, 1, 'e', 0x32, 4, 0x0a, 2, 'a', 'b'}, false)
	f.Add(uint8(0), []byte{0, 0, 0, 5, 0, 0, 0, 1, 1, 0, 9, 9, 9, 9, 9}, true)
	f.Chdir(f.TempDir()) // a bundle that is no path is one in the current folder
	svc := New("fuzz", "", func() {})
	server, err := ttrpc.NewServer()
	if err != nil {
		f.Fatal(err)
	}
	shims.Serve(server, svc)
	l, err := net.Listen("unix", filepath.Join(f.TempDir(), "s"))
	if err != nil {
		f.Fatal(err)
	}
	go server.Serve(context.Background(), l)
	f.Cleanup(func() { server.Close() })
	f.Fuzz(func(t *testing.T, method uint8, payload []byte, raw bool) {
		name := methods[int(method)%len(methods)]
		frame := request(name, payload)
		if raw {
			frame = payload
		}
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(frame); err != nil {
			return // it hung up before the end of what is no frame
		}
		if raw {
			c.(*net.UnixConn).CloseWrite()
		}
		var header [10]byte
		if _, err = io.ReadFull(c, header[:]); err == nil {
			_, err = io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(header[:])))
		}
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatalf("%s isn't answered", name)
		}
		if err != nil && !raw && len(payload) < 1<<20 {
			t.Fatalf("%s of %x: %v", name, payload, err)
		}
		if svc.Len() != 0 {
			t.Fatalf("%s of %x made a container", name, payload)
		}
	})
}
