package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Settings are the keys that belong to the daemon as a whole.
type Settings struct {
	// Version of the config file's format. Files of versions 2 and 3 are read
	// and migrated.
	Version int `toml:"version"`
	// Root is the folder for what must outlive a reboot: images, metadata,
	// snapshots. Only root may enter it.
	Root string `toml:"root"`
	// State is the folder for what ends with a reboot: sockets, shims' states.
	State string `toml:"state"`
	// Temp is the folder for short-lived files, "" for the system's.
	Temp string `toml:"temp"`
	// OOMScore is the daemon's oom_score_adj, from -1000 to 1000; 0 leaves it.
	OOMScore int `toml:"oom_score"`
	// Imports are files, or patterns of files, merged over this one in order;
	// relative to this file.
	Imports []string `toml:"imports"`
	// DisabledPlugins are the full names of plugins that are not started.
	DisabledPlugins []string `toml:"disabled_plugins"`
	// OnlyPlugins are the full names of the plugins that are started, with those that
	// they can't do without; empty is all.
	OnlyPlugins []string `toml:"only_plugins"`
	// RequiredPlugins are the full names of plugins without which the daemon
	// doesn't start.
	RequiredPlugins []string `toml:"required_plugins"`
	// Defaults chooses the provider of a role that has several, such as
	// "io.containerd.snapshotter.v1" = "overlayfs".
	Defaults map[string]string `toml:"defaults"`
	// Debug sets what is logged.
	Debug Debug `toml:"debug"`
	// Cgroup places the daemon itself.
	Cgroup Cgroup `toml:"cgroup"`
	// Timeouts are durations by the name of what they bound.
	Timeouts map[string]time.Duration `toml:"timeouts"`
	// ProxyPlugins are providers that run as programs of their own and are
	// reached over gRPC.
	ProxyPlugins map[string]Proxy `toml:"proxy_plugins"`
	// StreamProcessors are programs that turn one media type into another while
	// a layer is unpacked.
	StreamProcessors map[string]StreamProcessor `toml:"stream_processors"`
	// Plugins holds a table for each plugin, by its full name.
	Plugins map[string]any `toml:"plugins"`
	// PluginDir was the folder of loadable plugins. It is read and ignored.
	PluginDir string `toml:"plugin_dir,hidden"`
}

// Debug sets what is logged.
type Debug struct {
	// Level is the least severe level logged: trace, debug, info, warn, error,
	// fatal or panic.
	Level string `toml:"level"`
	// Format of log lines: text or json.
	Format string `toml:"format"`
	// Address was the debug socket's; it belongs to the plugin
	// io.containerd.server.v1.debug now and is moved there.
	Address string `toml:"address,hidden"`
	// UID was the debug socket's owner.
	UID int `toml:"uid,hidden"`
	// GID was the debug socket's group.
	GID int `toml:"gid,hidden"`
}

// Cgroup places the daemon itself.
type Cgroup struct {
	// Path of the cgroup the daemon joins, "" to stay where it was started.
	Path string `toml:"path"`
}

// Proxy is a provider that runs as a program of its own.
type Proxy struct {
	// Type of the provider: snapshot, content, diff or sandbox.
	Type string `toml:"type"`
	// Address of its socket, an absolute path or unix:///path.
	Address string `toml:"address"`
	// Platform it works for, such as linux/amd64; "" is the daemon's own.
	Platform string `toml:"platform"`
	// Exports are facts shown to clients that introspect.
	Exports map[string]string `toml:"exports"`
	// Capabilities are optional features, shown to clients that introspect.
	Capabilities []string `toml:"capabilities"`
}

// StreamProcessor is a program that turns one media type into another.
type StreamProcessor struct {
	// Accepts are the media types it reads.
	Accepts []string `toml:"accepts"`
	// Returns is the media type it writes.
	Returns string `toml:"returns"`
	// Path of the program, or its name to be looked up.
	Path string `toml:"path"`
	// Args of the program.
	Args []string `toml:"args"`
	// Env are variables added to its environment, as KEY=value.
	Env []string `toml:"env"`
}

// DefaultSettings are the settings of an empty file.
func DefaultSettings() Settings {
	return Settings{
		Version: Version,
		Root:    "/var/lib/orlop",
		State:   "/run/orlop",
		Debug:   Debug{Level: "info", Format: "text"},
	}
}

// Validate checks the values that types can't.
func (s *Settings) Validate() error {
	var errs []error
	for _, dir := range []struct{ key, path string }{{"root", s.Root}, {"state", s.State}} {
		if !filepath.IsAbs(dir.path) {
			errs = append(errs, fmt.Errorf("%s: %q is no absolute path", dir.key, dir.path))
		}
	}
	if s.Temp != "" && !filepath.IsAbs(s.Temp) {
		errs = append(errs, fmt.Errorf("temp: %q is no absolute path", s.Temp))
	}
	if len(errs) == 0 && s.Root == s.State {
		errs = append(errs, fmt.Errorf("state: is the same folder as root: %s", s.Root))
	}
	if s.OOMScore < -1000 || s.OOMScore > 1000 {
		errs = append(errs, fmt.Errorf("oom_score: %d is not between -1000 and 1000", s.OOMScore))
	}
	return errors.Join(errs...)
}

// levels are the names of log levels, "" for the default.
var levels = []string{"", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}

// Validate checks the names of level and format.
func (d *Debug) Validate() error {
	var errs []error
	if !slices.Contains(levels, d.Level) {
		errs = append(errs, fmt.Errorf("level: %q is none of trace, debug, info, warn, error, fatal, panic", d.Level))
	}
	if !slices.Contains([]string{"", "text", "json"}, d.Format) {
		errs = append(errs, fmt.Errorf("format: %q is neither text nor json", d.Format))
	}
	return errors.Join(errs...)
}

// Settings decodes the daemon's own keys over the defaults given.
func (d *Document) Settings(defaults Settings, r *Report) Settings {
	s := defaults
	Decode(d.Root, &s, "", r)
	s.Version = Version
	return s
}
