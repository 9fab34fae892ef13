// Command orlop-build is `orlop build`: it builds images by BuildKit's protocol, over the
// engine's own socket, and gives builds what only a client has: its files, secrets, agent
// and credentials. It is a program of its own, which orlop becomes for a build, so that
// gRPC and what comes with it aren't loaded by every other command.
//
// Usage:
//
//	orlop build [OPTIONS] PATH | URL | -
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/internal/session"
)

func main() { os.Exit(run(os.Args[1:])) }

// Exit codes: of a build that failed, and of one that was ended by the user.
const (
	codeFailed      = 1
	codeInterrupted = 130
)

func run(args []string) int {
	s := &session.Session{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	defer s.Close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	root := root(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status session.Status
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		fmt.Fprintln(s.Err, status.Reason)
		return status.Code
	case ctx.Err() != nil:
		fmt.Fprintln(s.Err, "the build was ended")
		return codeInterrupted
	}
	for _, source := range errdefs.Sources(err) {
		_ = source.Print(s.Err)
	}
	fmt.Fprintln(s.Err, "ERROR: "+strings.TrimPrefix(session.Message(err), "Error: "))
	return codeFailed
}

// root has the command where people look for it: at the top, and under the nouns.
func root(s *session.Session) *cobra.Command {
	root := &cobra.Command{Use: "orlop", SilenceErrors: true, SilenceUsage: true, TraverseChildren: true}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return session.Status{Code: session.CodeUsage, Reason: fmt.Sprintf("%v\n\nUsage:  %s\n\nRun '%s --help' for more information", err, c.UseLine(), c.CommandPath())}
	})
	s.Global.Add(root.Flags())
	root.AddCommand(buildCommand(s))
	for _, noun := range []string{"image", "builder"} {
		c := &cobra.Command{Use: noun, TraverseChildren: true}
		c.AddCommand(buildCommand(s))
		root.AddCommand(c)
	}
	return root
}
