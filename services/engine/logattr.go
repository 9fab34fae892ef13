package engine

import (
	"os"
	"regexp"
	"strings"
	"text/template"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/internal/logsink"
)

// checkAttrs refuses expressions and templates that can't be read.
func checkAttrs(l *api.LogConfig) error {
	for _, key := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(l.Config[key]); err != nil {
			return invalid("log opt %s: %v", key, err)
		}
	}
	_, err := tagOf(l, tagged{})
	return err
}

// tagged is what a tag's template can name; Docker's words.
type tagged struct {
	ID, FullID, Name     string
	ImageID, ImageFullID string
	ImageName, Command   string
	DaemonName           string
	Config               map[string]string // the log's options
	ExtraAttributes      map[string]string
	ContainerID          string
	ContainerName        string
	ContainerImageID     string
	ContainerImageName   string
	ContainerLabels      map[string]string
	ContainerEnv         []string
}

// defaultTag names a container by the beginning of its ID.
const defaultTag = "{{.ID}}"

// maxTag bounds a tag, in bytes.
const maxTag = 4096

// tagOf makes the tag that the options say.
func tagOf(l *api.LogConfig, about tagged) (string, error) {
	text := l.Config["tag"]
	if text == "" {
		text = defaultTag
	}
	t, err := template.New("log-tag").Funcs(template.FuncMap{"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper}).Parse(text)
	if err != nil {
		return "", invalid("log opt tag: %v", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, about); err != nil {
		return "", invalid("log opt tag: %v", err)
	}
	return b.String()[:min(b.Len(), maxTag)], nil
}

// describe is what a log's driver is told of a container, and what each line carries.
func (e *Engine) describe(c *Container) (about logsink.About, attrs map[string]string, err error) {
	v := e.view(c)
	l := &v.HostConfig.LogConfig
	attrs = extraAttrs(l, v.Config)
	about = logsink.About{ID: v.ID, Name: v.Name, Image: v.Config.Image, ImageID: v.ImageID, Created: v.Created,
		Command: strings.Join(append(append([]string{}, v.Config.Entrypoint...), v.Config.Cmd...), " ")}
	if about.Host, err = os.Hostname(); err != nil {
		return about, nil, err
	}
	image := strings.TrimPrefix(v.ImageID, "sha256:")
	about.Tag, err = tagOf(l, tagged{ID: short(v.ID), FullID: v.ID, Name: v.Name, ImageID: image[:min(12, len(image))], ImageFullID: v.ImageID,
		ImageName: v.Config.Image, Command: about.Command, DaemonName: "docker", Config: l.Config, ExtraAttributes: attrs, ContainerID: v.ID,
		ContainerName: "/" + v.Name, ContainerImageID: v.ImageID, ContainerImageName: v.Config.Image, ContainerLabels: v.Config.Labels, ContainerEnv: v.Config.Env})
	if l.Config["tag"] != "" && !logsink.Known(l.Type) {
		attrs["tag"] = about.Tag
	}
	return about, attrs, err
}

// extraAttrs are the labels and variables that a log's options name.
func extraAttrs(l *api.LogConfig, c *api.Config) map[string]string {
	out := map[string]string{}
	vars := map[string]string{}
	for _, v := range c.Env {
		if key, value, ok := strings.Cut(v, "="); ok {
			vars[key] = value
		}
	}
	for option, have := range map[string]map[string]string{"labels": c.Labels, "env": vars} {
		for _, key := range strings.Split(l.Config[option], ",") {
			if v, ok := have[key]; ok {
				out[key] = v
			}
		}
		text := l.Config[option+"-regex"]
		if text == "" {
			continue
		}
		re, err := regexp.Compile(text)
		for key, v := range have {
			if err == nil && re.MatchString(key) {
				out[key] = v
			}
		}
	}
	return out
}
