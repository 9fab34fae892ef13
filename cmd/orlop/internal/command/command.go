// Package command is the commands of orlop, a file per noun.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/internal/version"
)

// Main runs the program and returns its exit code.
func Main(args []string, in *os.File, out, errs io.Writer) int {
	s := &session.Session{Args: args, In: in, Out: out, Err: errs}
	defer s.Close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	root := Root(s, args)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return exitCode(s, err)
}

func exitCode(s *session.Session, err error) int {
	if err == nil {
		return 0
	}
	var status session.Status
	if errors.As(err, &status) {
		if status.Reason != "" {
			fmt.Fprintln(s.Err, status.Reason)
		}
		return status.Code
	}
	fmt.Fprintln(s.Err, session.Message(err))
	return 1
}

// Root is the whole program, as far as args ask for it: of the commands, each with its
// dozens of flags, only the one that they name is made, all where they name none.
func Root(s *session.Session, args []string) *cobra.Command {
	root := &cobra.Command{
		Use: "orlop [OPTIONS] COMMAND", Short: "Build and run containers", Version: version.Release,
		SilenceErrors: true, SilenceUsage: true, TraverseChildren: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command: orlop %s\nSee 'orlop --help'", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate("Orlop version {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return session.Status{Code: session.CodeUsage, Reason: fmt.Sprintf("%v\n\nUsage:  %s\n\nRun '%s --help' for more information", err, c.UseLine(), c.CommandPath())}
	})
	s.Global.Add(root.Flags())
	root.Flags().BoolP("version", "v", false, "Print the version")
	root.AddGroup(&cobra.Group{ID: common, Title: "Common Commands:"}, &cobra.Group{ID: nouns, Title: "Management Commands:"}, &cobra.Group{ID: rest, Title: "Commands:"})
	for _, e := range needed(root, args) {
		c := e.make(s)
		c.GroupID = e.group
		root.AddCommand(c)
	}
	tidy(root)
	root.SetHelpCommandGroupID(rest)
	root.SetCompletionCommandGroupID(rest)
	return root
}

// tidy leaves cobra's additions out of usage lines, which name options themselves.
func tidy(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		tidy(sub)
	}
}

// Groups of commands in the help.
const (
	common = "common"
	nouns  = "nouns"
	rest   = "rest"
)

// noun is a command that only has others.
func noun(name, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, TraverseChildren: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command: %s %s\n\nRun '%s --help' for more information", c.CommandPath(), args[0], c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(commands...)
	return c
}

// named gives a command that exists at the top another name under its noun.
func named(use string, c *cobra.Command, aliases ...string) *cobra.Command {
	_, args, _ := strings.Cut(c.Use, " ")
	c.Use, c.Aliases = strings.TrimSpace(use+" "+args), aliases
	return c
}

// usage checks the number of arguments, with a message as docker's.
func usage(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		want := fmt.Sprintf("at least %d argument%s", least, plural(least))
		switch {
		case least == most && least == 0:
			want = "no arguments"
		case least == most:
			want = fmt.Sprintf("%d argument%s", least, plural(least))
		case len(args) > most && most >= 0:
			want = fmt.Sprintf("at most %d argument%s", most, plural(most))
		}
		return fmt.Errorf("%q requires %s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", c.CommandPath(), want, c.CommandPath(), c.UseLine(), c.Short)
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
