package client

import (
	"context"
	"encoding/json"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// UpdateTask changes the limits of a running container.
func (c *Client) UpdateTask(ctx context.Context, id string, limits *specs.LinuxResources) error {
	data, err := json.Marshal(limits)
	if err != nil {
		return err
	}
	_, err = tasks.NewTasksClient(c.conn).Update(ctx, &tasks.UpdateTaskRequest{
		ContainerID: id, Resources: &anypb.Any{TypeUrl: specType + "LinuxResources", Value: data},
	})
	return err
}
