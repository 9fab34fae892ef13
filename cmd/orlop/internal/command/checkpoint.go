package command

import (
	"context"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

func checkpointNoun(s *session.Session) *cobra.Command {
	return noun("checkpoint", "Manage checkpoints of containers", createCheckpoint(s), listCheckpoints(s), removeCheckpoint(s))
}

func checkpointDir(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "checkpoint-dir", "", "Folder of checkpoints (default one of the container's own)")
}

func createCheckpoint(s *session.Session) *cobra.Command {
	var o client.CheckpointCreateOptions
	var leave bool
	c := &cobra.Command{Use: "create [OPTIONS] CONTAINER CHECKPOINT", Short: "Write the processes of a running container into a checkpoint", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			o.CheckpointID, o.Exit = args[1], !leave
			if _, err := e.CheckpointCreate(c.Context(), args[0], o); err != nil {
				return err
			}
			s.Printf("%s\n", args[1])
			return nil
		}}
	c.Flags().BoolVar(&leave, "leave-running", false, "Let the container go on")
	checkpointDir(c, &o.CheckpointDir)
	return c
}

func listCheckpoints(s *session.Session) *cobra.Command {
	var o client.CheckpointListOptions
	c := &cobra.Command{Use: "ls [OPTIONS] CONTAINER", Aliases: []string{"list"}, Short: "List a container's checkpoints", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.CheckpointList(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			s.Printf("CHECKPOINT NAME\n")
			for _, p := range found.Items {
				s.Printf("%s\n", p.Name)
			}
			return nil
		}}
	checkpointDir(c, &o.CheckpointDir)
	return c
}

func removeCheckpoint(s *session.Session) *cobra.Command {
	var o client.CheckpointRemoveOptions
	c := &cobra.Command{Use: "rm [OPTIONS] CONTAINER CHECKPOINT [CHECKPOINT...]", Aliases: []string{"remove"}, Short: "Remove checkpoints", Args: usage(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return s.Each(c.Context(), args[1:], func(ctx context.Context, name string) error {
				one := o
				one.CheckpointID = name
				_, err := e.CheckpointRemove(ctx, args[0], one)
				return err
			})
		}}
	checkpointDir(c, &o.CheckpointDir)
	return c
}
