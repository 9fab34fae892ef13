package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/namespaces"
)

const (
	// maxEvent bounds an event on standard input, in bytes; the largest known,
	// a task's creation with its mounts, has some KiB.
	maxEvent = 1 << 20
	// publishWait bounds the call: a shim waits for it.
	publishWait = 10 * time.Second
)

// publish sends the event on standard input to a running daemon.
func (p *program) publish(args []string) error {
	f := p.flags("publish")
	topic := f.String("topic", "", "")
	namespace := f.String("namespace", "", "")
	if err := p.parse(f, args); err != nil {
		return err
	}
	if err := errors.Join(event.ValidateTopic(*topic), namespaces.Validate(*namespace)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	payload, err := readEvent(p.stdin)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	address := p.address
	if address == "" {
		address = filepath.Join(p.settings.State, p.socket)
	}
	conn, err := grpc.NewClient("unix://"+strings.TrimPrefix(address, "unix://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), publishWait)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, namespaces.Header, *namespace)
	_, err = events.NewEventsClient(conn).Publish(ctx, &events.PublishRequest{Topic: *topic, Event: payload})
	return errgrpc.ToNative(err)
}

func readEvent(r io.Reader) (*anypb.Any, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxEvent+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxEvent {
		return nil, fmt.Errorf("the event on standard input has more than %d bytes", maxEvent)
	}
	var payload anypb.Any
	if err := proto.Unmarshal(data, &payload); err != nil {
		return nil, fmt.Errorf("standard input is no protobuf Any: %w", err)
	}
	if payload.TypeUrl == "" {
		return nil, errors.New("the event on standard input has no type")
	}
	return &payload, nil
}
