package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/distribution"
	"github.com/orlop/orlop/cmd/orlop/internal/manifest"
)

// manifestNoun puts images for several platforms together in registries. It asks those
// itself; no engine is needed.
func manifestNoun(s *session.Session) *cobra.Command {
	return noun("manifest", "Manage manifests and lists of them", manifestAnnotate(s), manifestCreate(s), manifestInspect(s), manifestPush(s), manifestRemove(s))
}

func manifestStore(s *session.Session) manifest.Store {
	s.Config() // which says where its folder is
	return manifest.Store(filepath.Join(config.Dir(), "manifests"))
}

// manifestName reads a name, with the tag latest if it has none.
func manifestName(text string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, fmt.Errorf("error parsing name for manifest list %s: %w", text, err)
	}
	return reference.TagNameOnly(named), nil
}

// manifestNames reads several.
func manifestNames(texts []string) ([]reference.Named, error) {
	var out []reference.Named
	for _, text := range texts {
		n, err := manifestName(text)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// hubRegistry is where the names of docker.io are.
const hubRegistry = "registry-1.docker.io"

// manifestRegistry is a client of a name's registry.
func manifestRegistry(s *session.Session, n reference.Named, insecure bool) (*distribution.Client, error) {
	host := reference.Domain(n)
	a := s.Credentials(host)
	if host == "docker.io" {
		host = hubRegistry
	}
	return distribution.New(host, a.Username, a.Password, insecure)
}

// fetchManifest fetches what a name means, which is one manifest or several.
func fetchManifest(ctx context.Context, r *distribution.Client, n reference.Named) (distribution.Manifest, error) {
	return r.Manifest(ctx, reference.Path(n), parseRef(n))
}

func parseRef(n reference.Named) string {
	if d, ok := n.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := n.(reference.Tagged); ok {
		return t.Tag()
	}
	return "latest"
}

// fetchEntry fetches an image for one platform.
func fetchEntry(ctx context.Context, s *session.Session, n reference.Named, insecure bool) (manifest.Entry, error) {
	r, err := manifestRegistry(s, n, insecure)
	if err != nil {
		return manifest.Entry{}, err
	}
	m, err := fetchManifest(ctx, r, n)
	if err != nil {
		return manifest.Entry{}, err
	}
	if manifest.IsList(m.MediaType) {
		return manifest.Entry{}, fmt.Errorf("%s is a manifest list", n)
	}
	var body ocispec.Manifest
	if err := json.Unmarshal(m.Body, &body); err != nil {
		return manifest.Entry{}, fmt.Errorf("manifest of %s: %w", n, err)
	}
	image, err := r.Blob(ctx, reference.Path(n), body.Config.Digest)
	if err != nil {
		return manifest.Entry{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(m.Body), Size: int64(len(m.Body))}
	return manifest.NewEntry(n.String(), desc, m.Body, image)
}

func manifestCreate(s *session.Session) *cobra.Command {
	var amend, insecure bool
	c := &cobra.Command{Use: "create MANIFEST_LIST MANIFEST [MANIFEST...]", Short: "Begin a list, to annotate and push", Args: usage(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := manifestNames(args)
			if err != nil {
				return err
			}
			store, list := manifestStore(s), names[0]
			switch _, err := store.All(list); {
			case err == nil && !amend:
				return errors.New("refusing to amend an existing manifest list with no --amend flag")
			case err != nil && !errors.Is(err, manifest.ErrNone):
				return err
			}
			for _, n := range names[1:] {
				e, err := fetchEntry(c.Context(), s, n, insecure)
				if err == nil {
					err = store.Put(list, n, e)
				}
				if err != nil {
					return err
				}
			}
			s.Printf("Created manifest list %s\n", list)
			return nil
		}}
	c.Flags().BoolVarP(&amend, "amend", "a", false, "Change a list that was begun")
	c.Flags().BoolVar(&insecure, "insecure", false, "Use plain HTTP with registries beyond this machine")
	return c
}

func manifestAnnotate(s *session.Session) *cobra.Command {
	var to ocispec.Platform
	c := &cobra.Command{Use: "annotate [OPTIONS] MANIFEST_LIST MANIFEST", Short: "Say what an image of a list is for", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := manifestNames(args)
			if err != nil {
				return err
			}
			store := manifestStore(s)
			e, err := store.Get(names[0], names[1])
			if errors.Is(err, manifest.ErrNone) {
				return fmt.Errorf("manifest for image %s does not exist in %s", args[1], args[0])
			}
			if err != nil {
				return err
			}
			p := ocispec.Platform{}
			if e.Descriptor.Platform != nil {
				p = *e.Descriptor.Platform
			}
			for _, f := range []struct{ have, want *string }{{&p.OS, &to.OS}, {&p.Architecture, &to.Architecture}, {&p.Variant, &to.Variant}, {&p.OSVersion, &to.OSVersion}} {
				if *f.want != "" {
					*f.have = *f.want
				}
			}
			p.OSFeatures = append(p.OSFeatures, to.OSFeatures...)
			e.Descriptor.Platform = &p
			return store.Put(names[0], names[1], e)
		}}
	f := c.Flags()
	f.StringVar(&to.OS, "os", "", "Operating system")
	f.StringVar(&to.Architecture, "arch", "", "Architecture")
	f.StringVar(&to.Variant, "variant", "", "Variant of the architecture")
	f.StringVar(&to.OSVersion, "os-version", "", "Version of the operating system")
	f.StringSliceVar(&to.OSFeatures, "os-features", nil, "Features of the operating system")
	return c
}

func manifestRemove(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "rm MANIFEST_LIST [MANIFEST_LIST...]", Short: "Forget lists that were begun", Args: usage(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, text := range args {
				n, err := manifestName(text)
				if err == nil {
					err = manifestStore(s).Remove(n)
				}
				if errors.Is(err, manifest.ErrNone) {
					err = errors.New("No such manifest: " + n.String()) // docker's words
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}}
}

// indented is JSON for people.
func indented(v any) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	err := enc.Encode(v)
	return out.String(), err
}
