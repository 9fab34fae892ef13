package command

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

func registryReplication(s *session.Session, plain *bool) *cobra.Command {
	again := ""
	c := &cobra.Command{Use: "replication [OPTIONS] REGISTRY", Short: "Show how an Orlop registry pushes to others", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := registryClient(s, args[0], *plain)
			if err != nil {
				return err
			}
			rules, err := r.Replication(c.Context(), again)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.Out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "RULE\tTARGET\tWAITING\tFAILING\tPUSHED\tSENT\tLAST\tSTATE")
			for _, x := range rules {
				state, last := "up to date", "never"
				switch {
				case x.Error != "":
					state = x.Error
				case x.Survey:
					state = "looking at everything"
				case x.Waiting > 0:
					state = "pushing"
				}
				if x.Last != nil {
					last = units.HumanDuration(time.Since(*x.Last)) + " ago"
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", x.Name, x.Target, x.Waiting, x.Failing, x.Pushed, units.HumanSize(float64(x.Bytes)), last, state)
			}
			return w.Flush()
		}}
	c.Flags().StringVar(&again, "again", "", "Look at everything again by the rule of this name")
	return c
}
