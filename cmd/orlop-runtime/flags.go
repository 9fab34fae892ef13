package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// option is one flag. Without a value name it is a switch.
type option struct {
	name, short, value, help string
}

// flagSet reads flags as engines write them: one or two dashes, "=" or a space,
// repeated ones collected.
type flagSet struct {
	options []option
	values  map[string][]string
}

// parse returns the arguments that are no flags. With stop, the first of those
// ends the flags, so that a program's own are left alone.
func (f *flagSet) parse(args []string, stop bool) ([]string, error) {
	f.values = map[string][]string{}
	var rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(rest, args[i+1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' || negative(a) {
			if stop {
				return append(rest, args[i:]...), nil
			}
			rest = append(rest, a)
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
		o, known := f.find(name)
		if !known {
			return nil, fmt.Errorf("unknown flag %s", a)
		}
		switch {
		case o.value == "" && !ok:
			value = "true"
		case o.value != "" && !ok:
			if i++; i >= len(args) {
				return nil, fmt.Errorf("flag %s needs a value", a)
			}
			value = args[i]
		}
		f.values[o.name] = append(f.values[o.name], value)
	}
	return rest, nil
}

// negative tells "-1" from a flag.
func negative(s string) bool { return len(s) > 1 && s[1] >= '0' && s[1] <= '9' }

func (f *flagSet) find(name string) (option, bool) {
	i := slices.IndexFunc(f.options, func(o option) bool { return o.name == name || o.short != "" && o.short == name })
	if i < 0 {
		return option{}, false
	}
	return f.options[i], true
}

func (f *flagSet) get(name string) string {
	v := f.values[name]
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

func (f *flagSet) list(name string) []string { return f.values[name] }

func (f *flagSet) has(name string) bool { return len(f.values[name]) > 0 }

func (f *flagSet) is(name string) bool { return f.get(name) == "true" || f.get(name) == "1" }

func usage(w io.Writer) {
	fmt.Fprint(w, "orlop-runtime is an OCI container runtime.\n\nUsage: orlop-runtime [flags] command [flags] [arguments]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.help)
	}
	fmt.Fprint(w, "\nFlags:\n")
	describe(w, globalFlags)
	fmt.Fprint(w, "\nExamples:\n  orlop-runtime spec --bundle b     # write b/config.json\n  orlop-runtime run --bundle b web  # run it in the foreground\n  orlop-runtime exec -t web sh\n")
}

func (c command) usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: orlop-runtime %s [flags] %s\n\n%s\n\nFlags:\n", c.name, c.args, c.help)
	describe(w, c.flags)
}

func describe(w io.Writer, list []option) {
	for _, o := range list {
		left := "--" + o.name
		if o.short != "" {
			left += ", -" + o.short
		}
		if o.value != "" {
			left += " " + o.value
		}
		fmt.Fprintf(w, "  %-34s %s\n", left, o.help)
	}
}
