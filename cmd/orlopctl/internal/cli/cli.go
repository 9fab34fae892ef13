// Package cli is orlopctl's command line: a file per noun, whose commands
// decode their arguments, make one call of package client or of a service, and
// print a table or JSON.
//
// Only the commands of the noun that is asked for are built, so that a start
// costs little. A process runs one command; nothing here is safe for concurrent
// use. JSON field names never change.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/internal/suggest"
)

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer

	address   string
	namespace string
	json      bool
	quiet     bool

	c    *client.Client
	code int // exit code of a process, if the command ran one
}

// noun is a top-level command. Its subcommands are only made when it is asked
// for.
type noun struct {
	name, alias, short string
	build              func(*app) *cobra.Command
}

// nouns are all top-level commands, in the order of the help text.
var nouns = []noun{
	{"run", "", "Create and start a container", (*app).runCommand},
	{"images", "image i", "Pull, push, list and change images", (*app).imagesCommand},
	{"containers", "container c", "Create, list and remove containers", (*app).containersCommand},
	{"tasks", "task t", "Start, enter, watch and stop containers", (*app).tasksCommand},
	{"snapshots", "snapshot", "Show and change snapshots", (*app).snapshotsCommand},
	{"content", "", "Show and change blobs", (*app).contentCommand},
	{"networks", "network net", "Make networks, and connect containers", (*app).networksCommand},
	{"leases", "lease", "Keep things from being collected", (*app).leasesCommand},
	{"volumes", "volume vol", "Folders that outlive containers", (*app).volumesCommand},
	{"namespaces", "namespace ns", "Show and change namespaces", (*app).namespacesCommand},
	{"events", "event", "Watch what happens", (*app).eventsCommand},
	{"plugins", "plugin", "Show what the daemon is made of", (*app).pluginsCommand},
	{"gc", "", "Collect garbage", (*app).gcCommand},
	{"fsck", "", "Look for damage, and mend it", (*app).fsckCommand},
	{"info", "", "Show facts about the daemon", (*app).infoCommand},
	{"version", "", "Show the versions of client and daemon", (*app).versionCommand},
}

// Main runs the command line and returns the exit code: a process's own for run
// and exec, 125 for our errors there, 1 elsewhere.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	// Most runs end before a first collection would pay.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(maxGarbage)
	a := &app{in: in, out: out, err: errw}
	ctx, stop := a.context(args)
	defer stop()
	root := a.root(args)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if a.c != nil {
		a.c.Close()
	}
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintln(errw, "orlopctl: "+a.explain(err))
		a.code = cmp.Or(codeOf(err), a.code, 1)
	}
	return a.code
}

// maxGarbage is the memory from which on the garbage collector works.
const maxGarbage = 64 << 20

// errSilent ends a command whose exit code says everything.
var errSilent = errors.New("")

// context ends at the first interrupt, except where a process gets the signals.
func (a *app) context(args []string) (context.Context, func()) {
	if slices.ContainsFunc(args, func(s string) bool { return s == "run" || s == "exec" || s == "attach" }) {
		return context.Background(), func() {}
	}
	return signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
}

func (a *app) root(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "orlopctl",
		Short: "Administer an Orlop daemon",
		Long: `orlopctl administers an Orlop daemon, or any daemon that serves containerd's API.

Without --json, lists are tables and single things are a few lines for people.
With --json they are JSON, whose field names never change.`,
		Example: `  orlopctl images pull docker.io/library/busybox:latest
  orlopctl run --rm busybox true
  orlopctl --json containers ls`,
		SilenceErrors: true,
		SilenceUsage:  true,
		CompletionOptions: cobra.CompletionOptions{
			DisableDefaultCmd: false, HiddenDefaultCmd: false,
		},
		SuggestionsMinimumDistance: 2,
		RunE:                       a.group,
		Args:                       cobra.ArbitraryArgs,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVarP(&a.address, "address", "a", cmp.Or(os.Getenv("ORLOP_ADDRESS"), client.DefaultAddress), "the daemon's socket (ORLOP_ADDRESS)")
	f.StringVarP(&a.namespace, "namespace", "n", cmp.Or(os.Getenv("ORLOP_NAMESPACE"), "default"), "namespace to work in (ORLOP_NAMESPACE)")
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print names only, and no progress")
	wanted := a.wanted(args)
	for _, n := range nouns {
		if wanted != "" && n.name != wanted {
			continue
		}
		cmd := n.build(a)
		cmd.Short, cmd.Aliases = n.short, strings.Fields(n.alias)
		root.AddCommand(cmd)
	}
	return root
}

// wanted is the noun that the arguments name, "" if all commands are needed:
// for help, completion, or a word that is none.
func (a *app) wanted(args []string) string {
	skip := false
	for _, arg := range args {
		switch {
		case skip:
			skip = false
		case arg == "-a" || arg == "-n" || arg == "--address" || arg == "--namespace":
			skip = true
		case strings.HasPrefix(arg, "-"):
		default:
			for _, n := range nouns {
				if n.name == arg || slices.Contains(strings.Fields(n.alias), arg) {
					return n.name
				}
			}
			return ""
		}
	}
	return ""
}

// group is run for a command that only has subcommands: it shows them, or says
// which one was probably meant.
func (a *app) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
			names = append(names, sub.Aliases...)
		}
	}
	if hint := suggest.Closest(args[0], names); hint != "" {
		return fmt.Errorf("unknown command %q of %s (did you mean %q?)", args[0], cmd.CommandPath(), hint)
	}
	return fmt.Errorf("unknown command %q of %s; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
}

// parent makes a command that only has subcommands.
func (a *app) parent(use, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Long: long, RunE: a.group, Args: cobra.ArbitraryArgs}
	cmd.AddCommand(subs...)
	return cmd
}

// action is a command's work, with a connection.
type action func(ctx context.Context, c *client.Client, args []string) error

// command makes a command from its usage line, texts, number of arguments (max
// -1 for any) and work.
func (a *app) command(use, short, example string, lo, hi int, do action) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < lo:
			return fmt.Errorf("too few arguments; usage: %s", cmd.UseLine())
		case hi >= 0 && n > hi:
			return fmt.Errorf("too many arguments, from %q on; usage: %s", args[hi], cmd.UseLine())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := client.New(a.address, a.namespace)
		if err != nil {
			return err
		}
		a.c = c
		c.Connect()
		return do(c.Context(cmd.Context()), c, args)
	}
	return cmd
}

// codeOf is the exit code that an error asks for, 0 for none.
func codeOf(err error) int {
	var start *client.StartError
	if errors.As(err, &start) {
		return start.Code
	}
	return 0
}

// explain makes a sentence of an error, in which gRPC is not mentioned.
func (a *app) explain(err error) string {
	s, ok := status.FromError(unwrapStatus(err))
	if !ok {
		return err.Error()
	}
	text := strings.Replace(err.Error(), unwrapStatus(err).Error(), s.Message(), 1)
	switch s.Code() {
	case codes.Unavailable:
		if !strings.Contains(text, "connection error:") && !strings.Contains(text, "error reading from server") {
			return text // the daemon's own word of something else that isn't there
		}
		if _, statErr := os.Stat(strings.TrimPrefix(a.address, "unix://")); errors.Is(statErr, os.ErrNotExist) {
			return fmt.Sprintf("no daemon: there is no socket %s (--address, ORLOP_ADDRESS)", a.address)
		}
		if strings.Contains(text, "permission denied") {
			return fmt.Sprintf("socket %s: permission denied; only root may use it", a.address)
		}
		return fmt.Sprintf("the daemon at %s does not answer: %s", a.address, text)
	case codes.Unimplemented:
		return fmt.Sprintf("the daemon at %s can't do this: %s", a.address, text)
	case codes.Canceled:
		return "interrupted"
	}
	return text
}

// unwrapStatus finds the gRPC error within err.
func unwrapStatus(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ok := e.(interface{ GRPCStatus() *status.Status }); ok {
			return e
		}
	}
	return err
}
