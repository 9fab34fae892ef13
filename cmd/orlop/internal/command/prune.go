package command

import (
	"context"
	"fmt"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

// pruned is what a prune has removed.
type pruned struct {
	title string
	names []string
	freed uint64 // bytes
}

func (p pruned) print(s *session.Session) {
	if len(p.names) == 0 {
		return
	}
	s.Printf("%s\n", p.title)
	for _, n := range p.names {
		s.Printf("%s\n", n)
	}
	s.Printf("\n")
}

func pruneCommand(s *session.Session, what string, do func(context.Context, *client.Client, client.Filters) (pruned, error)) *cobra.Command {
	var force bool
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove " + what, Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if !force && !agreed(s, fmt.Sprintf("WARNING! This will remove %s.\nAre you sure you want to continue?", what)) {
				return session.Status{Code: 1, Reason: "nothing was removed"}
			}
			e, err := s.Engine()
			if err != nil {
				return err
			}
			got, err := do(c.Context(), e, s.PruneFilters(filter.Value()))
			if err != nil {
				return err
			}
			got.print(s)
			s.Printf("Total reclaimed space: %s\n", units.HumanSize(float64(got.freed)))
			return nil
		}}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not ask")
	c.Flags().Var(&filter, "filter", "Remove those that match (key=value)")
	return c
}
