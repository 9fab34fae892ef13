package streaming_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/services/streaming"
)

type fake struct{ closed int }

func (*fake) Send(typeurl.Any) error     { return nil }
func (*fake) Recv() (typeurl.Any, error) { return nil, nil }
func (f *fake) Close() error             { f.closed++; return nil }

func in(ns string) context.Context { return namespaces.With(context.Background(), ns) }

func TestClaim(t *testing.T) {
	m := streaming.New(streaming.DefaultConfig())
	s := &fake{}
	over, err := m.Register(in("a"), "one", s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Register(in("a"), "one", &fake{}); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("a taken name: %v", err)
	}
	if _, err := m.Claim(in("b"), "one"); !errdefs.IsNotFound(err) {
		t.Fatalf("another namespace's stream: %v", err)
	}
	if got, err := m.Claim(in("a"), "one"); err != nil || got != s {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := m.Claim(in("a"), "one"); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("claimed twice: %v", err)
	}
	over()
	if _, err := m.Claim(in("a"), "one"); !errdefs.IsNotFound(err) {
		t.Fatalf("after its end: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 1000)} {
		if _, err := m.Register(in("a"), name, s); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("name of %d bytes: %v", len(name), err)
		}
	}
	if _, err := m.Register(context.Background(), "x", s); err == nil {
		t.Fatal("a stream without a namespace")
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := streaming.New(streaming.Config{MaxStreams: 3, ClaimTimeout: time.Minute})
		idle, used := &fake{}, &fake{}
		overIdle, _ := m.Register(in("a"), "idle", idle)
		overUsed, _ := m.Register(in("a"), "used", used)
		overThird, _ := m.Register(in("a"), "third", &fake{})
		if _, err := m.Register(in("b"), "fourth", &fake{}); !errdefs.IsResourceExhausted(err) {
			t.Fatalf("one too many: %v", err)
		}
		if _, err := m.Claim(in("a"), "used"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if idle.closed != 1 || used.closed != 0 {
			t.Fatalf("the idle one is closed %d times, the used one %d", idle.closed, used.closed)
		}
		for _, over := range []func(){overIdle, overUsed, overThird} {
			over()
		}
		for i := range 3 {
			over, err := m.Register(in("a"), fmt.Sprint(i), &fake{})
			if err != nil {
				t.Fatal(err)
			}
			over()
		}
	})
}
