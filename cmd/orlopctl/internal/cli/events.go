package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	_ "github.com/containerd/containerd/api/events" // the types of events
	"github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type eventRow struct {
	Time      time.Time       `json:"time"`
	Namespace string          `json:"namespace"`
	Topic     string          `json:"topic"`
	Event     json.RawMessage `json:"event"`
}

func (a *app) eventsCommand() *cobra.Command {
	watch := a.command("watch [FILTER...]", "Print events as they happen, of all namespaces",
		"  orlopctl events watch\n  orlopctl events watch 'topic~=^/tasks/' 'namespace==default'", 0, -1, a.eventsWatch)
	cmd := a.parent("events", "Events tell what happens in the daemon. An event is printed if one of the filters matches it.", watch)
	return cmd
}

// eventsWatch prints until it is interrupted: a line for each event, with --json
// one JSON object a line.
func (a *app) eventsWatch(ctx context.Context, c *client.Client, filters []string) error {
	stream, err := events.NewEventsClient(c.Conn()).Subscribe(ctx, &events.SubscribeRequest{Filters: filters})
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.printEvent(e); err != nil {
			return err
		}
	}
}

func (a *app) printEvent(e *types.Envelope) error {
	row := eventRow{when(e.Timestamp), e.Namespace, e.Topic, eventJSON(e.Event)}
	if !a.json {
		_, err := fmt.Fprintf(a.out, "%s %s %s %s\n", row.Time.Format("2006-01-02T15:04:05.000Z07:00"), printable(row.Namespace), printable(row.Topic), row.Event)
		return err
	}
	line, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", line)
	return err
}

// eventJSON decodes an event of a known type; another one is its type and bytes.
func eventJSON(a *anypb.Any) json.RawMessage {
	name := protoreflect.FullName(client.TypeName(a))
	if t, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
		m := t.New().Interface()
		if ok, err := client.Unpack(a, m); ok && err == nil {
			if data, err := (protojson.MarshalOptions{UseProtoNames: true}).Marshal(m); err == nil {
				return compact(data)
			}
		}
	}
	data, _ := json.Marshal(map[string]string{"type": string(name), "value": base64.StdEncoding.EncodeToString(a.GetValue())})
	return data
}
