package dbus

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// startBus runs a message bus of its own.
func startBus(t *testing.T) (socket string) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("needs dbus-daemon")
	}
	socket = filepath.Join(t.TempDir(), "bus")
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--nosyslog", "--print-address", "--address=unix:path="+socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("the bus does not start:", err)
	}
	return socket
}

func bus(member string, args ...any) Call {
	return Call{Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus", Member: member, Args: args}
}

func TestBus(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	socket := startBus(t)
	c, err := Dial(ctx, socket, true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if out, err := c.Call(ctx, bus("GetId")); err != nil || len(out) != 1 || len(out[0].(string)) != 32 {
		t.Errorf("GetId: %v %v", out, err)
	}
	if out, err := c.Call(ctx, bus("RequestName", "org.orlop.test", uint32(4))); err != nil || !reflect.DeepEqual(out, []any{uint32(1)}) {
		t.Errorf("RequestName: %v %v", out, err)
	}
	if out, err := c.Call(ctx, bus("NameHasOwner", "org.orlop.test")); err != nil || !reflect.DeepEqual(out, []any{true}) {
		t.Errorf("NameHasOwner: %v %v", out, err)
	}
	_, err = c.Call(ctx, bus("GetNameOwner", "org.orlop.nobody"))
	if !IsError(err, "org.freedesktop.DBus.Error.NameHasNoOwner") || !strings.Contains(err.Error(), "org.orlop.nobody") {
		t.Errorf("GetNameOwner: %v", err)
	}
	// A signal that comes before anybody waits for it, and one that never comes.
	got, err := c.Await(ctx, func(s Signal) bool { return s.Member == "NameAcquired" && s.Args[0] == "org.orlop.test" })
	if err != nil || got.Interface != "org.freedesktop.DBus" {
		t.Errorf("NameAcquired: %v %v", got, err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := c.Await(short, func(Signal) bool { return false }); err != context.DeadlineExceeded {
		t.Errorf("waiting for ever: %v", err)
	}
}

// TestBusReadsEveryType lets the bus check the marshalling of all types: it closes
// the connection on a message that is malformed, and else answers.
func TestBusReadsEveryType(t *testing.T) {
	c, err := Dial(t.Context(), startBus(t), true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	props := []Property{{"Text", "é"}, {"Yes", true}, {"N", uint32(1)}, {"Big", uint64(1 << 40)}, {"Bits", []byte{1, 2, 3}},
		{"IDs", []uint32{7}}, {"Pairs", []Pair{{"a", "b"}, {"cc", "dd"}}}, {"None", []Pair{}}, {"Rates", []Amount{{"/dev/x", 5}}}}
	for n := range props {
		_, err := c.Call(t.Context(), bus("GetId", "pad"[:n%4], uint64(n), props[:n+1], NoUnits{}, "end"))
		if err != nil && !IsError(err, "org.freedesktop.DBus.Error.InvalidArgs") {
			t.Fatalf("%v: %v", props[n], err)
		}
	}
}

func TestCallRefusesOtherTypes(t *testing.T) {
	for _, args := range [][]any{{1}, {[]Property{{"x", 1.5}}}} {
		if _, err := (&Call{Member: "M", Args: args}).marshal(1); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	call := Call{Destination: "a.b", Path: "/p", Interface: "i.f", Member: "M", Args: []any{"text", uint32(3), true, uint64(9)}}
	b, err := call.marshal(7)
	if err != nil {
		f.Fatal(err)
	}
	m, err := unmarshal(bytes.Clone(b))
	if err != nil || !reflect.DeepEqual(m.args, call.Args) || m.fields[fieldMember] != "M" {
		f.Fatalf("%+v %v", m, err)
	}
	f.Add(b)
	f.Add(append(bytes.Clone(b[:16]), 8, 1, 'g', 0, 1, 'v', 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 16 {
			unmarshal(b)
		}
	})
}
