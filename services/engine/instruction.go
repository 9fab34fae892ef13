package engine

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// changer applies instructions of a Dockerfile that change an image's config alone.
type changer struct {
	c      *api.Config
	cmdSet bool
}

// instructions are those that a commit or an import takes.
var instructions = map[string]func(ch *changer, rest string) error{
	"CMD": (*changer).cmd, "ENTRYPOINT": (*changer).entrypoint, "ENV": (*changer).env, "EXPOSE": (*changer).expose,
	"HEALTHCHECK": (*changer).healthcheck, "LABEL": (*changer).label, "ONBUILD": (*changer).onBuild,
	"STOPSIGNAL": (*changer).stopSignal, "USER": (*changer).user, "VOLUME": (*changer).volume, "WORKDIR": (*changer).workdir,
}

// maxChangeText bounds instructions, in bytes.
const maxChangeText = 1 << 20

// change returns a config with instructions applied; the one given stays as it is.
func change(c *api.Config, changes []string) (*api.Config, error) {
	next := *c
	next.Labels, next.Volumes, next.ExposedPorts = maps.Clone(c.Labels), maps.Clone(c.Volumes), maps.Clone(c.ExposedPorts)
	next.Env, next.OnBuild = slices.Clone(c.Env), slices.Clone(c.OnBuild)
	ch := &changer{c: &next}
	text := strings.Join(changes, "\n")
	if len(text) > maxChangeText {
		return nil, invalid("changes of %d bytes are too long", len(text))
	}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		apply := instructions[strings.ToUpper(word)]
		if apply == nil {
			return nil, invalid("%s is not a valid change command", strings.ToLower(word))
		}
		if rest = strings.TrimSpace(rest); rest == "" {
			return nil, invalid("%s requires at least one argument", strings.ToUpper(word))
		}
		if err := apply(ch, rest); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// list reads the JSON form of a list; ok is false for text that is none.
func list(text string) (out []string, ok bool) {
	return out, strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &out) == nil
}

// command reads both forms of a command.
func (ch *changer) command(text string) []string {
	if words, ok := list(text); ok {
		return words
	}
	if len(ch.c.Shell) > 0 {
		return append(slices.Clone(ch.c.Shell), text)
	}
	return []string{"/bin/sh", "-c", text}
}

func (ch *changer) cmd(text string) error {
	ch.c.Cmd, ch.cmdSet = ch.command(text), true
	return nil
}

// entrypoint takes away a command that was for another one.
func (ch *changer) entrypoint(text string) error {
	if ch.c.Entrypoint = ch.command(text); !ch.cmdSet {
		ch.c.Cmd = nil
	}
	return nil
}

// lookup finds variables of the config.
func (ch *changer) lookup(name string) string {
	for _, v := range ch.c.Env {
		if key, value, _ := strings.Cut(v, "="); key == name {
			return value
		}
	}
	return ""
}

// words splits text as a shell would: quotes, backslashes and variables.
func (ch *changer) words(text string) ([]string, error) {
	var out []string
	var b strings.Builder
	begun, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				out = append(out, b.String())
				b.Reset()
			}
			begun = false
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == '$' && quote != '\'':
			name, n := variable(text[i+1:])
			if n == 0 {
				b.WriteByte(c)
			}
			b.WriteString(ch.lookup(name))
			i += n
		default:
			b.WriteByte(c)
		}
		begun = true
	}
	if quote != 0 {
		return nil, invalid("unexpected end of statement while looking for matching %c: %s", quote, text)
	}
	if begun {
		out = append(out, b.String())
	}
	return out, nil
}

// variable reads a variable's name after the dollar sign, and how long it is there.
func variable(text string) (name string, length int) {
	if strings.HasPrefix(text, "{") {
		if end := strings.IndexByte(text, '}'); end > 0 {
			return text[1:end], end + 1
		}
		return "", 0
	}
	for length < len(text) && (text[length] == '_' || text[length]|0x20 >= 'a' && text[length]|0x20 <= 'z' || length > 0 && text[length] >= '0' && text[length] <= '9') {
		length++
	}
	return text[:length], length
}

// pairs reads key=value words, or one key and the rest as its value.
func (ch *changer) pairs(what, text string) ([][2]string, error) {
	first, _, _ := strings.Cut(text, " ")
	if !strings.Contains(first, "=") {
		key, value, ok := strings.Cut(text, " ")
		if !ok {
			return nil, invalid("%s must have two arguments", what)
		}
		return [][2]string{{key, strings.TrimSpace(value)}}, nil
	}
	words, err := ch.words(text)
	if err != nil {
		return nil, err
	}
	var out [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, invalid("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		out = append(out, [2]string{key, value})
	}
	return out, nil
}

func (ch *changer) env(text string) error {
	all, err := ch.pairs("ENV", text)
	for _, p := range all {
		key, value := p[0], p[0]+"="+p[1]
		i := slices.IndexFunc(ch.c.Env, func(v string) bool { k, _, _ := strings.Cut(v, "="); return k == key })
		if i < 0 {
			ch.c.Env = append(ch.c.Env, value)
		} else {
			ch.c.Env[i] = value
		}
	}
	return err
}

func (ch *changer) label(text string) error {
	all, err := ch.pairs("LABEL", text)
	for _, p := range all {
		if ch.c.Labels == nil {
			ch.c.Labels = map[string]string{}
		}
		ch.c.Labels[p[0]] = p[1]
	}
	return err
}

func (ch *changer) expose(text string) error {
	words, err := ch.words(text)
	if err != nil {
		return err
	}
	if ch.c.ExposedPorts == nil {
		ch.c.ExposedPorts = network.PortSet{}
	}
	for _, w := range words {
		r, err := network.ParsePortRange(w)
		if err != nil {
			return invalid("Invalid containerPort: %s", w)
		}
		for p := range r.All() {
			ch.c.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

// one is the only word of an instruction.
func (ch *changer) one(what, text string) (string, error) {
	words, err := ch.words(text)
	if err == nil && len(words) != 1 {
		err = invalid("%s requires exactly one argument", what)
	}
	if err != nil {
		return "", err
	}
	return words[0], nil
}

func (ch *changer) user(text string) (err error) {
	ch.c.User, err = ch.one("USER", text)
	return err
}

func (ch *changer) workdir(text string) error {
	dir, err := ch.one("WORKDIR", text)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", ch.c.WorkingDir, dir)
	}
	ch.c.WorkingDir = path.Clean(dir)
	return nil
}

func (ch *changer) stopSignal(text string) error {
	name, err := ch.one("STOPSIGNAL", text)
	if err != nil {
		return err
	}
	if _, err := parseSignal(name, "SIGTERM"); err != nil {
		return err
	}
	ch.c.StopSignal = name
	return nil
}

func (ch *changer) volume(text string) (err error) {
	words, ok := list(text)
	if !ok {
		if words, err = ch.words(text); err != nil {
			return err
		}
	}
	if ch.c.Volumes == nil {
		ch.c.Volumes = map[string]struct{}{}
	}
	for _, w := range words {
		if w = strings.TrimSpace(w); w == "" {
			return invalid("VOLUME specified can not be an empty string")
		}
		ch.c.Volumes[w] = struct{}{}
	}
	return nil
}

func (ch *changer) onBuild(text string) error {
	word, _, _ := strings.Cut(text, " ")
	switch strings.ToUpper(word) {
	case "ONBUILD":
		return invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return invalid("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(word))
	}
	ch.c.OnBuild = append(ch.c.OnBuild, text)
	return nil
}

func (ch *changer) healthcheck(text string) error {
	h := &api.HealthConfig{}
	for strings.HasPrefix(text, "--") {
		option, rest, _ := strings.Cut(text, " ")
		if err := healthOption(h, option); err != nil {
			return err
		}
		text = strings.TrimSpace(rest)
	}
	kind, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch kind = strings.ToUpper(kind); {
	case kind == "NONE" && rest == "":
		h.Test = []string{"NONE"}
	case kind == "CMD" && rest != "":
		if words, ok := list(rest); ok {
			h.Test = append([]string{"CMD"}, words...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return invalid("Unknown type %q in HEALTHCHECK (try CMD)", kind)
	}
	ch.c.Healthcheck = h
	return nil
}

func healthOption(h *api.HealthConfig, text string) (err error) {
	key, value, _ := strings.Cut(text, "=")
	switch key {
	case "--retries":
		if h.Retries, err = strconv.Atoi(value); err != nil || h.Retries < 0 {
			return invalid("invalid %s: %q", key, value)
		}
		return nil
	}
	into := map[string]*time.Duration{"--interval": &h.Interval, "--timeout": &h.Timeout, "--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval}[key]
	if into == nil {
		return invalid("unknown flag of HEALTHCHECK: %s", key)
	}
	if *into, err = time.ParseDuration(value); err != nil || *into < 0 || *into > 0 && *into < time.Millisecond {
		return invalid("invalid %s: %q", key, value)
	}
	return nil
}
