// Orlopd is the daemon: it assembles what plugins/builtin lists as the config
// says, and runs until it is told to stop. Containers outlive it.
//
// Called by a name that ends in "containerd" it takes that daemon's folders,
// sockets and config file, so that a link makes it a drop-in.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/builtin"
	"github.com/orlop/orlop/plugins/config"
)

func main() {
	p := newProgram(os.Args[0])
	err := p.run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		os.Exit(1)
	}
}

// program is the daemon's command line.
type program struct {
	name           string // in messages
	defaultConfig  string // read where no other is named; it need not exist
	socket         string // in the state folder
	settings       config.Settings
	stdin          io.Reader
	stdout, stderr io.Writer

	// What the flags say; "" where they say nothing.
	config, root, state, address, level string
	version, rootless                   bool
}

// newProgram chooses folders by the name the program was called by.
func newProgram(arg0 string) *program {
	p := &program{name: filepath.Base(arg0), settings: config.DefaultSettings(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	short := "orlop"
	p.socket = "orlopd.sock"
	if strings.HasSuffix(p.name, "containerd") {
		short, p.socket = "containerd", "containerd.sock"
	}
	p.defaultConfig = "/etc/" + short + "/config.toml"
	p.settings.Root, p.settings.State = "/var/lib/"+short, "/run/"+short
	return p
}

// command is a verb of the command line.
type command struct {
	name, args, about string
	run               func(p *program, args []string) error
}

func commands() []command {
	return []command{
		{"config", "default|dump|check|migrate", "Print the config with its defaults, as it is in force, its mistakes, or in the newest version", (*program).configCommand},
		{"publish", "--topic TOPIC --namespace NAMESPACE", "Publish an event, a protobuf Any on standard input; shims call it", (*program).publish},
		{"oci-hook", "PROGRAM [ARG...]", "Run a program as an OCI hook, with {{id}}, {{pid}}, {{rootfs}}, {{bundle}}, {{annotation \"k\"}} and {{env \"k\"}} in its arguments filled in", (*program).ociHook},
	}
}

// flags are those of the daemon itself, which may stand before and after a verb.
func (p *program) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(p.stdout)
	f.Usage = func() { io.WriteString(p.stdout, p.usage()) }
	for _, d := range p.flagDocs() {
		for _, n := range d.names {
			if d.text != nil {
				f.StringVar(d.text, n, *d.text, "")
			} else {
				f.BoolVar(d.mark, n, *d.mark, "")
			}
		}
	}
	return f
}

type flagDoc struct {
	names       []string
	text        *string
	mark        *bool
	what, about string
}

func (p *program) flagDocs() []flagDoc {
	return []flagDoc{
		{[]string{"c", "config"}, &p.config, nil, "FILE", "config file (default " + p.defaultConfig + ", which need not exist)"},
		{[]string{"root"}, &p.root, nil, "DIR", "folder for what outlives a reboot (default " + p.settings.Root + ")"},
		{[]string{"state"}, &p.state, nil, "DIR", "folder for what ends with a reboot (default " + p.settings.State + ")"},
		{[]string{"a", "address"}, &p.address, nil, "SOCKET", "where to listen for gRPC (default " + p.socket + " in the state folder)"},
		{[]string{"l", "log-level"}, &p.level, nil, "LEVEL", "trace, debug, info, warn or error (default info)"},
		{[]string{"rootless"}, nil, &p.rootless, "", "run as an ordinary user, with files in $XDG_DATA_HOME/orlop and $XDG_RUNTIME_DIR/orlop"},
		{[]string{"v", "version"}, nil, &p.version, "", "print the version"},
	}
}

func (p *program) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s runs containers: it keeps images, snapshots and containers and serves the containerd API.\n\n", p.name)
	fmt.Fprintf(&b, "Usage:\n  %s [FLAGS]\n  %s [FLAGS] COMMAND [ARGS]\n\nCommands:\n", p.name, p.name)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %s %s\n        %s\n", c.name, c.args, c.about)
	}
	b.WriteString("\nFlags:\n")
	for _, d := range p.flagDocs() {
		names := "--" + d.names[len(d.names)-1]
		if len(d.names) > 1 {
			names = "-" + d.names[0] + ", " + names
		}
		fmt.Fprintf(&b, "  %s\n        %s\n", strings.TrimSpace(names+" "+d.what), d.about)
	}
	b.WriteString("  -h, --help\n        print this\n")
	return b.String()
}

func (p *program) run(args []string) error {
	f := p.flags(p.name)
	if err := p.parse(f, args); err != nil {
		return err
	}
	if p.version {
		_, err := fmt.Fprintln(p.stdout, p.name, "github.com/orlop/orlop", version.Release, version.Revision())
		return err
	}
	if p.rootless {
		if f.NArg() > 0 {
			return errors.New("--rootless goes with no command")
		}
		return p.rootlessDaemon()
	}
	if f.NArg() == 0 {
		return p.serve()
	}
	for _, c := range commands() {
		if c.name == f.Arg(0) {
			return c.run(p, f.Args()[1:])
		}
	}
	return fmt.Errorf("unknown command %q; --help lists all", f.Arg(0))
}

// parse keeps mistakes to one line: main prints them.
func (p *program) parse(f *flag.FlagSet, args []string) error {
	usage := f.Usage
	f.Usage = func() {}
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage()
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w; --help lists the flags", err)
	}
	return err
}

// load reads the config file, with what the flags say on top.
func (p *program) load() (*config.Document, error) {
	doc, err := p.read()
	if err != nil {
		return nil, err
	}
	for _, set := range []struct {
		value string
		path  []string
	}{
		{p.root, []string{"root"}},
		{p.state, []string{"state"}},
		{p.level, []string{"debug", "level"}},
		{p.address, []string{"plugins", "io.containerd.server.v1.grpc", "address"}},
	} {
		if set.value != "" {
			doc.Set(set.value, set.path...)
		}
	}
	if p.address != "" {
		doc.Set(p.address+".ttrpc", "plugins", "io.containerd.server.v1.ttrpc", "address")
	}
	return doc, nil
}

func (p *program) read() (*config.Document, error) {
	if p.config != "" {
		return config.Load(p.config)
	}
	if _, err := os.Stat(p.defaultConfig); errors.Is(err, os.ErrNotExist) {
		return config.Empty(), nil
	}
	return config.Load(p.defaultConfig)
}

// assemble makes the registry of all providers.
func (p *program) assemble() (*plugins.Registry, *builtin.Daemon) {
	reg := &plugins.Registry{}
	daemon := &builtin.Daemon{Socket: p.socket, Load: p.load, Defaults: p.settings}
	builtin.Register(reg, daemon)
	return reg, daemon
}

func (p *program) configCommand(args []string) error {
	f := p.flags("config")
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	if err := p.parse(f, args); err != nil {
		return err
	}
	if verb == "" && f.NArg() > 0 {
		verb = f.Arg(0)
	}
	if verb == "" {
		return fmt.Errorf("config needs one of %s", plugins.ConfigCommands)
	}
	reg, _ := p.assemble()
	return reg.ConfigCommand(verb, p.load, p.settings, p.stdout, p.stderr)
}
