package server

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// queued is how many events wait for a daemon that is away. Beyond it the oldest
// are lost; the daemon asks for states when it comes back.
const queued = 2048

// publisher sends events to the daemon, in order, without holding anybody up.
type publisher struct {
	address string
	queue   chan *types.Envelope
	closing chan struct{}
	wg      sync.WaitGroup
}

func newPublisher(address string) *publisher {
	p := &publisher{address: address, queue: make(chan *types.Envelope, queued), closing: make(chan struct{})}
	p.wg.Go(p.run)
	return p
}

// close sends what is queued, for a moment.
func (p *publisher) close() {
	close(p.queue)
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		close(p.closing)
		<-done
	}
}

// send queues an event. It never waits for the daemon.
func (p *publisher) send(namespace string, ev any) {
	a, err := typeurl.MarshalAny(ev)
	if err != nil {
		log.L.WithError(err).Error("event")
		return
	}
	env := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: namespace, Topic: topic(ev),
		Event: &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()},
	}
	for {
		select {
		case p.queue <- env:
			return
		default:
		}
		select {
		case lost := <-p.queue:
			log.L.Warnf("event %s is lost: %d wait for the daemon", lost.Topic, queued)
		default:
		}
	}
}

func topic(ev any) string {
	switch ev.(type) {
	case *events.TaskCreate:
		return "/tasks/create"
	case *events.TaskStart:
		return "/tasks/start"
	case *events.TaskExit:
		return "/tasks/exit"
	case *events.TaskDelete:
		return "/tasks/delete"
	case *events.TaskExecAdded:
		return "/tasks/exec-added"
	case *events.TaskExecStarted:
		return "/tasks/exec-started"
	case *events.TaskPaused:
		return "/tasks/paused"
	case *events.TaskResumed:
		return "/tasks/resumed"
	case *events.TaskOOM:
		return "/tasks/oom"
	}
	return "/tasks/?"
}

// The pause between two tries to reach an absent daemon.
const (
	shortPause = 50 * time.Millisecond
	longPause  = time.Second
)

// run sends one event after the other, each until it has arrived.
func (p *publisher) run() {
	var client *ttrpc.Client
	for env := range p.queue {
		pause := shortPause
		for {
			if client == nil {
				client = p.dial()
			}
			if client != nil && forward(client, env) == nil {
				break
			}
			if client != nil {
				client.Close()
				client = nil
			}
			select {
			case <-time.After(pause):
				pause = min(2*pause, longPause)
			case <-p.closing:
				return
			}
		}
	}
}

func (p *publisher) dial() *ttrpc.Client {
	conn, err := net.DialTimeout("unix", p.address, time.Second)
	if err != nil {
		return nil
	}
	return ttrpc.NewClient(conn)
}

func forward(c *ttrpc.Client, env *types.Envelope) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := wire.NewTTRPCEventsClient(c).Forward(ctx, &wire.ForwardRequest{Envelope: env})
	return err
}
