package events_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	wire "github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/services/events"
)

func TestDeliveryInOrder(t *testing.T) {
	var x events.Exchange
	ctx := namespaces.With(t.Context(), "test")
	all, _ := x.Subscribe(ctx)
	some, _ := x.Subscribe(ctx, `topic==/images/create`, `event.name==img7`)
	for i := range 10 {
		topic := "/images/update"
		if i == 3 {
			topic = "/images/create"
		}
		if err := x.Publish(ctx, topic, &wire.ImageCreate{Name: fmt.Sprint("img", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		env := <-all
		if got, _ := env.Field([]string{"event", "name"}); got != fmt.Sprint("img", i) {
			t.Fatalf("event %d is %s", i, got)
		}
	}
	for _, want := range []string{"img3", "img7"} {
		if got, _ := (<-some).Field([]string{"event", "name"}); got != want {
			t.Fatalf("filtered %s, want %s", got, want)
		}
	}
}

func TestSlowSubscriberIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x events.Exchange
		ctx, cancel := context.WithCancel(namespaces.With(t.Context(), "test"))
		defer cancel()
		_, errs := x.Subscribe(ctx)
		for range 10_000 { // more than the queue, and nobody reads
			if err := x.Publish(ctx, "/a/b", &wire.ImageDelete{}); err != nil {
				t.Fatal(err)
			}
		}
		other, _ := x.Subscribe(ctx)
		if err := x.Publish(ctx, "/a/c", &wire.ImageDelete{}); err != nil {
			t.Fatal(err)
		}
		if env := <-other; env.Topic != "/a/c" {
			t.Fatalf("got %s", env.Topic)
		}
		if err := <-errs; !errdefs.IsResourceExhausted(err) {
			t.Fatalf("the slow one was told %v", err)
		}
	})
}

func TestBadEvents(t *testing.T) {
	var x events.Exchange
	if err := x.Publish(t.Context(), "/a", &wire.ImageDelete{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without a namespace: %v", err)
	}
	if err := x.Publish(namespaces.With(t.Context(), "n"), "a", &wire.ImageDelete{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("with a relative topic: %v", err)
	}
	if err := <-func() <-chan error { _, e := x.Subscribe(t.Context(), "=="); return e }(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("with a bad filter: %v", err)
	}
}
