package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/cli/context"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

func contextNoun(s *session.Session) *cobra.Command {
	return noun("context", "Manage contexts: which engine is used", createContext(s), exportContext(s), importContext(s), inspectContext(s), listContexts(s), removeContexts(s), showContext(s), updateContext(s), useContext(s))
}

func createContext(s *session.Session) *cobra.Command {
	var description, from string
	var endpoint map[string]string
	c := &cobra.Command{Use: "create [OPTIONS] CONTEXT", Short: "Create a context", Args: usage(1, 1)}
	c.RunE = func(_ *cobra.Command, args []string) error {
		name := args[0]
		if err := newContextName(s, name); err != nil {
			return err
		}
		meta := store.Metadata{Name: name, Metadata: session.ContextMeta{Description: description}}
		if from != "" {
			if err := copyContext(s, from, name); err != nil {
				return err
			}
			var err error
			if meta, err = s.Contexts().GetMetadata(name); err != nil {
				return err
			}
			if c.Flags().Changed("description") {
				meta.Metadata = session.ContextMeta{Description: description}
			}
		} else if len(endpoint) == 0 {
			endpoint = map[string]string{"": ""} // which lacks a host
		}
		if err := keepContext(s, meta, endpoint); err != nil {
			return err
		}
		s.Printf("%s\n", name)
		return nil
	}
	contextFlags(c, &description, &endpoint)
	c.Flags().StringVar(&from, "from", "", "Make it of another context")
	return c
}

func tlsOf(endpoint map[string]string) (*context.TLSData, error) {
	if endpoint["ca"]+endpoint["cert"]+endpoint["key"] == "" {
		return nil, nil
	}
	return context.TLSDataFromFiles(endpoint["ca"], endpoint["cert"], endpoint["key"])
}

func inspectContext(s *session.Session) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] [CONTEXT]...", Short: "Print details of contexts", Args: usage(0, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{s.ContextName()}
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				if ref == session.DefaultContext {
					return store.Metadata{Name: ref, Metadata: session.ContextMeta{}, Endpoints: map[string]any{docker.DockerEndpoint: docker.EndpointMeta{Host: s.Host()}}}, nil, nil
				}
				meta, err := s.Contexts().GetMetadata(ref)
				return meta, nil, err
			})
		}}
	inspectFlags(c, &format)
	return c
}

func listContexts(s *session.Session) *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List contexts", Args: usage(0, 0),
		RunE: func(*cobra.Command, []string) error {
			all, err := s.Contexts().List()
			if err != nil {
				return err
			}
			now := s.ContextName()
			list := []*formatter.ClientContext{{Name: session.DefaultContext, Description: "Orlop's own daemon, or DOCKER_HOST", DockerEndpoint: s.Host(), Current: now == session.DefaultContext}}
			for _, m := range all {
				one := &formatter.ClientContext{Name: m.Name, Current: m.Name == now}
				if meta, ok := m.Metadata.(session.ContextMeta); ok {
					one.Description = meta.Description
				}
				if at, err := docker.EndpointFromContext(m); err == nil {
					one.DockerEndpoint = at.Host
				} else {
					one.Error = err.Error()
				}
				list = append(list, one)
			}
			slices.SortFunc(list, func(a, b *formatter.ClientContext) int { return strings.Compare(a.Name, b.Name) })
			if format == "" {
				format = formatter.TableFormatKey
			}
			return formatter.ClientContextWrite(formatter.Context{Output: s.Out, Format: formatter.NewClientContextFormat(format, quiet)}, list)
		}}
	c.Flags().StringVar(&format, "format", "", "table, json, or a Go template")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	return c
}

func removeContexts(s *session.Session) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm CONTEXT [CONTEXT...]", Aliases: []string{"remove"}, Short: "Remove contexts", Args: usage(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, name := range args {
				if name == session.DefaultContext {
					return errors.New(`context "default" cannot be removed`)
				}
				if name == s.ContextName() && !force {
					return fmt.Errorf("context %q is in use, set -f flag to force remove", name)
				}
				if _, err := s.Contexts().GetMetadata(name); err != nil && !force {
					return fmt.Errorf("context %q: %w", name, err)
				}
				if err := s.Contexts().Remove(name); err != nil {
					return err
				}
				s.Printf("%s\n", name)
			}
			return nil
		}}
	c.Flags().BoolVarP(&force, "force", "f", false, "Remove it though it is in use")
	return c
}

func showContext(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Print the name of the context in use", Args: usage(0, 0),
		RunE: func(*cobra.Command, []string) error { s.Printf("%s\n", s.ContextName()); return nil }}
}

func useContext(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "use CONTEXT", Short: "Use a context from now on", Args: usage(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if name != session.DefaultContext {
				if _, err := s.Contexts().GetMetadata(name); err != nil {
					return fmt.Errorf("context %q: %w", name, err)
				}
			}
			config := s.Config()
			if config.CurrentContext = name; name == session.DefaultContext {
				config.CurrentContext = ""
			}
			if err := config.Save(); err != nil {
				return err
			}
			s.Printf("%s\n", name)
			fmt.Fprintf(s.Err, "Current context is now %q\n", name)
			if host := os.Getenv("DOCKER_HOST"); host != "" {
				fmt.Fprintf(s.Err, "Warning: DOCKER_HOST is set to %q and wins over the context; unset it to use %q.\n", host, name)
			}
			return nil
		}}
}
