package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	bus "github.com/orlop/orlop/services/events"
	"github.com/orlop/orlop/services/grpc"
)

func TestPublish(t *testing.T) {
	exchange := &bus.Exchange{}
	address := filepath.Join(t.TempDir(), "d.sock")
	door, err := grpc.Listen(grpc.Socket{Path: address}, []grpc.Service{&grpc.Events{Bus: exchange}})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, _ := exchange.Subscribe(ctx, "topic==/tasks/oom")
	payload, err := typeurl.MarshalAnyToProto(&events.TaskOOM{ContainerID: "box"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := call(t, "orlopd", string(data), "--address", address, "publish", "--topic", "/tasks/oom", "--namespace", "demo"); err != nil {
		t.Fatal(err)
	}
	env := <-got
	if env.Namespace != "demo" || env.Event.GetTypeUrl() != payload.TypeUrl || string(env.Event.GetValue()) != string(payload.Value) {
		t.Errorf("event %+v", env)
	}
}

func TestPublishMistakes(t *testing.T) {
	empty, _ := proto.Marshal(&anypb.Any{})
	for _, c := range []struct {
		stdin, want string
		args        []string
	}{
		{"", "topic", []string{"--namespace", "demo"}},
		{"", "identifier", []string{"--topic", "/x", "--namespace", "a b"}},
		{string(empty), "has no type", []string{"--topic", "/x", "--namespace", "demo"}},
		{"\xff", "no protobuf Any", []string{"--topic", "/x", "--namespace", "demo"}},
		{strings.Repeat("x", maxEvent+1), "more than", []string{"--topic", "/x", "--namespace", "demo"}},
	} {
		_, _, err := call(t, "orlopd", c.stdin, append([]string{"publish"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.args, err, c.want)
		}
	}
}
