package command

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/internal/session"
)

// serveOptions are the flags of registry serve.
type serveOptions struct {
	listen, root, state string
	htpasswd            string
	cert, key, clientCA string
	config              string
	insecure, readOnly  bool
	accessLog           bool
}

// served are the plugins of a daemon that is only a registry.
var served = []string{"io.containerd.server.v1.registry", "io.containerd.gc.v1.scheduler",
	"io.containerd.metrics.v1.grpc-prometheus", "io.containerd.server.v1.metrics"}

// registryServe runs a registry by the daemon's program, which becomes this process.
func registryServe(s *session.Session) *cobra.Command {
	var o serveOptions
	c := &cobra.Command{Use: "serve [OPTIONS]", Short: "Run a registry without an engine", Args: usage(0, 0),
		Long: "Runs a registry, and nothing else, until it is stopped. Everything that can be configured\nis in the section of the registry of a config file that --config names.",
		RunE: func(c *cobra.Command, _ []string) error {
			daemon, err := findDaemon()
			if err != nil {
				return err
			}
			args, err := o.prepare(c.Flags().Changed)
			if err != nil {
				return err
			}
			return fmt.Errorf("%s: %w", daemon, unix.Exec(daemon, append([]string{daemon}, args...), os.Environ()))
		}}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:5000", "Where to listen, host:port")
	f.StringVar(&o.root, "root", "/var/lib/orlop-registry", "Folder for what is kept")
	f.StringVar(&o.state, "state", "/run/orlop-registry", "Folder for what ends with a reboot")
	f.StringVar(&o.htpasswd, "htpasswd", "", "File of users and bcrypt hashes (htpasswd -B)")
	f.StringVar(&o.cert, "tls-cert", "", "File of the server's certificate")
	f.StringVar(&o.key, "tls-key", "", "File of the certificate's key")
	f.StringVar(&o.clientCA, "tls-client-ca", "", "File of authorities whose client certificates are taken")
	f.StringVar(&o.config, "config", "", "A config file of the daemon, to which the flags are added")
	f.BoolVar(&o.insecure, "insecure", false, "Allow plain HTTP beyond this machine")
	f.BoolVar(&o.readOnly, "read-only", false, "Refuse all changes")
	f.BoolVar(&o.accessLog, "access-log", false, "Log each request")
	return c
}

// findDaemon looks beside this program first, then on the PATH.
func findDaemon() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "orlopd")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("orlopd")
	if err != nil {
		return "", errors.New("the daemon's program, orlopd, is neither beside orlop nor on the PATH")
	}
	return filepath.Abs(path)
}

// prepare writes the config, and returns the daemon's arguments.
func (o *serveOptions) prepare(given func(flag string) bool) ([]string, error) {
	for _, path := range []*string{&o.root, &o.state, &o.htpasswd, &o.cert, &o.key, &o.clientCA, &o.config} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		*path = abs
	}
	if err := os.MkdirAll(o.state, 0o711); err != nil {
		return nil, err
	}
	// Imports are merged over the file that names them, the later over the earlier: so
	// flags win over the config, and that over what is the default here.
	base, flags := filepath.Join(o.state, "registry.toml"), filepath.Join(o.state, "flags.toml")
	imports := []string{quoted(flags)}
	if o.config != "" {
		imports = []string{quoted(o.config), quoted(flags)}
	}
	var names []string
	for _, id := range served {
		names = append(names, quoted(id))
	}
	text := fmt.Sprintf("# Written by orlop registry serve at each start.\nversion = 4\nimports = [%s]\nonly_plugins = [%s]\n[plugins.%s]\nlisten = %s\n",
		strings.Join(imports, ", "), strings.Join(names, ", "), quoted(served[0]), quoted(o.listen))
	if err := os.WriteFile(base, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return []string{"--config", base, "--root", o.root, "--state", o.state}, os.WriteFile(flags, []byte(o.toml(given)), 0o600)
}

// toml is what was given by flags.
func (o *serveOptions) toml(given func(flag string) bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version = 4\n[plugins.%s]\n", quoted(served[0]))
	for _, f := range []struct {
		flag, key string
		value     any
	}{
		{"listen", "listen", o.listen}, {"tls-cert", "cert", o.cert}, {"tls-key", "key", o.key}, {"insecure", "insecure", o.insecure},
		{"read-only", "read_only", o.readOnly}, {"access-log", "access_log", o.accessLog},
		{"htpasswd", "auth.htpasswd", o.htpasswd}, {"tls-client-ca", "auth.client_ca", o.clientCA},
	} {
		if !given(f.flag) {
			continue
		}
		if text, ok := f.value.(string); ok {
			f.value = quoted(text)
		}
		fmt.Fprintf(&b, "%s = %v\n", f.key, f.value)
	}
	return b.String()
}

// quoted is a basic string of TOML.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
