package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

// errDefault says that the default context is no file.
var errDefault = errors.New(`"default" is a reserved context name`)

func exportContext(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "export CONTEXT [FILE|-]", Short: "Write a context to a file, as a tar archive", Args: usage(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			name, path := args[0], args[0]+".dockercontext"
			if len(args) > 1 {
				path = args[1]
			}
			if name == session.DefaultContext {
				return errDefault
			}
			if _, err := s.Contexts().GetMetadata(name); err != nil {
				return fmt.Errorf("context %q: %w", name, err)
			}
			from := store.Export(name, s.Contexts())
			defer from.Close()
			if path == "-" {
				_, err := io.Copy(s.Out, from)
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it may have keys
			if err != nil {
				return err
			}
			_, err = io.Copy(f, from)
			if err = errors.Join(err, f.Close()); err != nil {
				return errors.Join(err, os.Remove(path))
			}
			fmt.Fprintf(s.Err, "Written file %q\n", path)
			return nil
		}}
}

func importContext(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "import CONTEXT FILE|-", Short: "Read a context from a tar or zip archive", Args: usage(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if err := newContextName(s, name); err != nil {
				return err
			}
			from := s.In
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				from = f
			}
			if err := store.Import(name, s.Contexts(), from); err != nil {
				return fmt.Errorf("import %s: %w", args[1], err)
			}
			s.Printf("%s\n", name)
			fmt.Fprintf(s.Err, "Successfully imported context %q\n", name)
			return nil
		}}
}

// newContextName makes sure that a name is one, and not taken.
func newContextName(s *session.Session, name string) error {
	if err := store.ValidateContextName(name); err != nil {
		return err
	}
	if name == session.DefaultContext {
		return errDefault
	}
	if _, err := s.Contexts().GetMetadata(name); err == nil {
		return fmt.Errorf("context %q already exists", name)
	}
	return nil
}

func updateContext(s *session.Session) *cobra.Command {
	var description string
	var endpoint map[string]string
	c := &cobra.Command{Use: "update [OPTIONS] CONTEXT", Short: "Change a context", Args: usage(1, 1)}
	c.RunE = func(_ *cobra.Command, args []string) error {
		name := args[0]
		if name == session.DefaultContext {
			return errDefault
		}
		meta, err := s.Contexts().GetMetadata(name)
		if err != nil {
			return fmt.Errorf("context %q: %w", name, err)
		}
		if c.Flags().Changed("description") {
			known, _ := meta.Metadata.(session.ContextMeta)
			known.Description = description
			meta.Metadata = known
		}
		if err := keepContext(s, meta, endpoint); err != nil {
			return err
		}
		s.Printf("%s\n", name)
		fmt.Fprintf(s.Err, "Successfully updated context %q\n", name)
		return nil
	}
	contextFlags(c, &description, &endpoint)
	return c
}

func contextFlags(c *cobra.Command, description *string, endpoint *map[string]string) {
	c.Flags().StringVar(description, "description", "", "Description")
	c.Flags().StringToStringVar(endpoint, "docker", nil, "Endpoint (host=…,ca=…,cert=…,key=…,skip-tls-verify=…)")
}

// keepContext stores a context, with an endpoint of flags if there are any.
func keepContext(s *session.Session, meta store.Metadata, endpoint map[string]string) error {
	if len(endpoint) == 0 {
		return s.Contexts().CreateOrUpdate(meta)
	}
	if endpoint["host"] == "" {
		return errors.New("the endpoint's host is missing: --docker host=unix:///… or ssh://… or tcp://…")
	}
	tls, err := tlsOf(endpoint)
	if err != nil {
		return err
	}
	if meta.Endpoints == nil {
		meta.Endpoints = map[string]any{}
	}
	meta.Endpoints[docker.DockerEndpoint] = docker.EndpointMeta{Host: endpoint["host"], SkipTLSVerify: endpoint["skip-tls-verify"] == "true"}
	if err := s.Contexts().CreateOrUpdate(meta); err != nil {
		return err
	}
	return s.Contexts().ResetEndpointTLSMaterial(meta.Name, docker.DockerEndpoint, tls.ToStoreTLSData())
}

// copyContext makes a context of another one.
func copyContext(s *session.Session, from, name string) error {
	if from == session.DefaultContext {
		return keepContext(s, store.Metadata{Name: name, Metadata: session.ContextMeta{}}, map[string]string{"host": s.Host()})
	}
	if _, err := s.Contexts().GetMetadata(from); err != nil {
		return fmt.Errorf("context %q: %w", from, err)
	}
	archive := store.Export(from, s.Contexts())
	defer archive.Close()
	return store.Import(name, s.Contexts(), archive)
}
