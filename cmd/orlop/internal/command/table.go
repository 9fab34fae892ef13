package command

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

// entry is a command at the top.
type entry struct {
	group, name string
	make        func(*session.Session) *cobra.Command
}

// table is all commands at the top, in the order of the help.
var table = []entry{
	{common, "run", runCommand}, {common, "exec", execCommand}, {common, "ps", psCommand}, {common, "build", buildCommand},
	{common, "pull", pullCommand}, {common, "push", pushCommand}, {common, "images", imagesCommand}, {common, "login", loginCommand},
	{common, "logout", logoutCommand}, {common, "search", searchCommand}, {common, "version", versionCommand}, {common, "info", infoCommand},

	{nouns, "container", containerNoun}, {nouns, "image", imageNoun}, {nouns, "network", networkNoun}, {nouns, "volume", volumeNoun},
	{nouns, "system", systemNoun}, {nouns, "context", contextNoun}, {nouns, "builder", builderNoun}, {nouns, "checkpoint", checkpointNoun}, {nouns, "registry", registryNoun}, {nouns, "manifest", manifestNoun},

	{rest, "attach", attachCommand}, {rest, "commit", commitCommand}, {rest, "cp", copyCommand}, {rest, "create", createCommand},
	{rest, "diff", diffCommand}, {rest, "events", eventsCommand}, {rest, "export", exportCommand}, {rest, "graph", graphCommand},
	{rest, "history", historyCommand}, {rest, "import", importCommand}, {rest, "inspect", inspectCommand}, {rest, "kill", killCommand},
	{rest, "load", loadCommand}, {rest, "logs", logsCommand}, {rest, "pause", pauseCommand}, {rest, "port", portCommand},
	{rest, "rename", renameCommand}, {rest, "restart", restartCommand}, {rest, "rm", rmCommand}, {rest, "rmi", rmiCommand},
	{rest, "save", saveCommand}, {rest, "start", startCommand}, {rest, "stats", statsCommand}, {rest, "stop", stopCommand},
	{rest, "tag", tagCommand}, {rest, "top", topCommand}, {rest, "unpause", unpauseCommand}, {rest, "update", updateCommand},
	{rest, "wait", waitCommand}, {rest, "why", whyCommand},
}

// needed are the commands that a command line can mean: the one whose name is its
// first word, or all.
func needed(root *cobra.Command, args []string) []entry {
	name := firstWord(root, args)
	for _, e := range table {
		if e.name == name {
			return []entry{e}
		}
	}
	return table
}

// firstWord is the first argument that is neither a flag of root nor a flag's value.
func firstWord(root *cobra.Command, args []string) string {
	flags := root.Flags()
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			return arg
		}
		long, isLong := strings.CutPrefix(arg, "--")
		f := flags.Lookup(long)
		if !isLong && len(arg) == 2 {
			f = flags.ShorthandLookup(arg[1:])
		}
		if f != nil && f.NoOptDefVal == "" {
			i++ // its value
		}
	}
	return ""
}
