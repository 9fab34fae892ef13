// Package session is what every command works with: the streams, the settings of the
// user, and the connection to an engine, which is made when it is first needed.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/connhelper"
	"github.com/moby/moby/client"
	"golang.org/x/term"

	"github.com/orlop/orlop/internal/version"
)

// DefaultHost is where Orlop's daemon serves the Docker Engine API.
const DefaultHost = "unix:///run/orlop/docker.sock"

// Global are the flags that come before a command.
type Global struct {
	Host      string // address of the engine; wins over contexts
	Context   string // name of a context
	ConfigDir string // folder of the user's settings
	Debug     bool
	TLS       bool
	TLSVerify bool
	TLSCA     string // files in PEM
	TLSCert   string
	TLSKey    string
}

// Session is one run of the program. It isn't safe for concurrent use, but for its
// client.
type Session struct {
	Args     []string // the command line
	In       *os.File
	Out, Err io.Writer
	Global   Global

	engine *client.Client
	user   *configfile.ConfigFile
}

// Engine is the client of the engine.
func (s *Session) Engine() (*client.Client, error) {
	if s.engine != nil {
		return s.engine, nil
	}
	opts, err := s.dial()
	if err != nil {
		return nil, err
	}
	opts = append(opts, client.WithUserAgent("Orlop-Client/"+version.Release), client.WithAPIVersionFromEnv())
	s.engine, err = client.New(opts...)
	return s.engine, err
}

// Close ends the connections.
func (s *Session) Close() {
	if s.engine != nil {
		s.engine.Close()
	}
}

// Config is the user's file of settings, which holds credentials and defaults; it is
// the same that docker uses.
func (s *Session) Config() *configfile.ConfigFile {
	if s.user != nil {
		return s.user
	}
	if s.Global.ConfigDir != "" {
		config.SetDir(s.Global.ConfigDir)
	}
	s.user = config.LoadDefaultConfigFile(s.Err)
	return s.user
}

// dial finds out which engine is meant: --host, --context, DOCKER_HOST,
// DOCKER_CONTEXT, the current context, and else Orlop's own, in that order.
func (s *Session) dial() ([]client.Opt, error) {
	if s.Global.Host != "" && s.Global.Context != "" {
		return nil, errors.New("conflicting options: cannot specify both --host and --context")
	}
	if name := s.ContextName(); name != DefaultContext {
		return s.contextOptions(name)
	}
	return s.hostOptions(s.Host())
}

// Host is the engine's address where no context names one.
func (s *Session) Host() string {
	for _, h := range []string{s.Global.Host, os.Getenv("DOCKER_HOST")} {
		if h != "" {
			return h
		}
	}
	return DefaultHost
}

func (s *Session) hostOptions(host string) ([]client.Opt, error) {
	helper, err := connhelper.GetConnectionHelper(host)
	if err != nil {
		return nil, err
	}
	if helper != nil { // ssh
		plain := &http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}
		return []client.Opt{client.WithHTTPClient(plain), client.WithHost(helper.Host), client.WithDialContext(helper.Dialer)}, nil
	}
	opts := []client.Opt{client.WithHost(host)}
	if g := s.Global; g.TLS || g.TLSVerify || os.Getenv("DOCKER_TLS_VERIFY") != "" {
		ca, cert, key := s.tlsFiles()
		opts = append(opts, client.WithTLSClientConfig(ca, cert, key))
	}
	return opts, nil
}

// tlsFiles are the files of certificates: those that flags name, or those in the
// user's folder.
func (s *Session) tlsFiles() (ca, cert, key string) {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = config.Dir()
	}
	pick := func(given, name string) string {
		if given != "" {
			return given
		}
		return filepath.Join(dir, name)
	}
	return pick(s.Global.TLSCA, "ca.pem"), pick(s.Global.TLSCert, "cert.pem"), pick(s.Global.TLSKey, "key.pem")
}

// Terminal returns the descriptor of a stream if it is a terminal.
func Terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile || f == nil {
		return 0, false
	}
	fd = int(f.Fd())
	return fd, term.IsTerminal(fd)
}

// Colour tells whether what is written may be coloured: on terminals, unless the
// user said no (https://no-color.org).
func (s *Session) Colour() bool {
	_, tty := Terminal(s.Out)
	return tty && os.Getenv("NO_COLOR") == ""
}

// Printf writes a line of output.
func (s *Session) Printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

// Each calls fn for every argument and goes on after errors, of which it prints
// each; like docker, it ends with status 1 if there was one.
func (s *Session) Each(ctx context.Context, args []string, fn func(ctx context.Context, arg string) error) error {
	var failed bool
	for _, a := range args {
		if err := fn(ctx, a); err != nil {
			failed = true
			fmt.Fprintln(s.Err, Message(err))
			if ctx.Err() != nil {
				break
			}
		}
	}
	if failed {
		return Status{Code: 1}
	}
	return nil
}

// PruneFilters adds the filters that the user always wants.
func (s *Session) PruneFilters(f client.Filters) client.Filters {
	if f == nil {
		f = client.Filters{}
	}
	for _, text := range s.Config().PruneFilters {
		if key, value, ok := strings.Cut(text, "="); ok {
			f = f.Add(key, value)
		}
	}
	return f
}
