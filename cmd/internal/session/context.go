package session

import (
	"fmt"
	"net/http"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/moby/moby/client"
)

// DefaultContext stands for --host, DOCKER_HOST or Orlop's own daemon.
const DefaultContext = "default"

// Contexts is the store of contexts, which is the same that docker uses.
func (s *Session) Contexts() *store.ContextStore {
	s.Config() // names the folder
	return store.New(config.ContextStoreDir(), store.NewConfig(
		func() any { return &ContextMeta{} },
		store.EndpointTypeGetter(docker.DockerEndpoint, func() any { return &docker.EndpointMeta{} }),
	))
}

// ContextMeta is what is kept of a context besides its endpoint.
type ContextMeta struct {
	Description string `json:",omitempty"`
}

// ContextName is the context that is used.
func (s *Session) ContextName() string {
	switch {
	case s.Global.Context != "":
		return s.Global.Context
	case s.Global.Host != "", os.Getenv("DOCKER_HOST") != "":
		return DefaultContext
	case os.Getenv("DOCKER_CONTEXT") != "":
		return os.Getenv("DOCKER_CONTEXT")
	case s.Config().CurrentContext != "":
		return s.Config().CurrentContext
	}
	return DefaultContext
}

func (s *Session) contextOptions(name string) ([]client.Opt, error) {
	contexts := s.Contexts()
	meta, err := contexts.GetMetadata(name)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	at, err := docker.EndpointFromContext(meta)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	helper, err := connhelper.GetConnectionHelper(at.Host)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	if helper != nil {
		plain := &http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}
		return []client.Opt{client.WithHTTPClient(plain), client.WithHost(helper.Host), client.WithDialContext(helper.Dialer)}, nil
	}
	whole, err := docker.WithTLSData(contexts, name, at)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	return whole.ClientOpts()
}
