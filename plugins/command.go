package plugins

import (
	"fmt"
	"io"

	"github.com/orlop/orlop/plugins/config"
)

// ConfigCommands are the verbs of [Registry.ConfigCommand], for help texts.
const ConfigCommands = "default, dump, check, migrate"

// ConfigCommand does what a daemon's "config" command does: default prints a
// commented file with the defaults; dump prints what is in force with the file
// that load reads; check says whether that file has mistakes; migrate prints it
// in the newest version. Warnings go to errw. Nothing is started.
func (r *Registry) ConfigCommand(verb string, load func() (*config.Document, error), defaults config.Settings, w, errw io.Writer) error {
	if verb == "default" {
		_, err := io.WriteString(w, r.Example(defaults))
		return err
	}
	doc, err := load()
	if err != nil {
		return err
	}
	text := ""
	plan, err := r.Plan(doc, defaults)
	for _, warning := range plan.Warnings {
		fmt.Fprintf(errw, "warning: %s\n", warning)
	}
	switch verb {
	case "migrate": // even with mistakes, which are the same in both versions
		text, err = doc.TOML(), nil
	case "dump":
		text = plan.Dump(true)
	case "check":
		text = "the config is right\n"
	default:
		return fmt.Errorf("unknown command %q of config; known are %s", verb, ConfigCommands)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}
