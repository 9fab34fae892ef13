package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/distribution"
)

// registryNoun looks into registries, whoever runs them.
func registryNoun(s *session.Session) *cobra.Command {
	plain := false
	c := noun("registry", "Run and look into registries", registryServe(s), registryList(s, &plain), registryTags(s, &plain),
		registryInspect(s, &plain), registryRemove(s, &plain), registryCollect(s, &plain), registryReplication(s, &plain))
	c.PersistentFlags().BoolVar(&plain, "plain-http", false, "Use plain HTTP with registries beyond this machine")
	return c
}

// registryClient is a client with the user's login.
func registryClient(s *session.Session, host string, plain bool) (*distribution.Client, error) {
	a := s.Credentials(host)
	return distribution.New(host, a.Username, a.Password, plain)
}

// place is a repository of a registry, and a tag or digest.
type place struct{ host, repo, ref string }

func parsePlace(name string) (place, error) {
	named, err := reference.ParseNamed(name)
	if err != nil {
		return place{}, fmt.Errorf("%q is no name such as registry.example.com/team/app:1.0: %w", name, err)
	}
	p := place{host: reference.Domain(named), repo: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		p.ref = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		p.ref = d.Digest().String()
	}
	return p, nil
}

func registryList(s *session.Session, plain *bool) *cobra.Command {
	return &cobra.Command{Use: "ls REGISTRY", Short: "List the repositories of a registry", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := registryClient(s, args[0], *plain)
			if err != nil {
				return err
			}
			names, err := r.Repositories(c.Context())
			printLines(s, names)
			return err
		}}
}

func registryTags(s *session.Session, plain *bool) *cobra.Command {
	return &cobra.Command{Use: "tags REPOSITORY", Short: "List the tags of a repository", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := parsePlace(args[0])
			if err != nil {
				return err
			}
			r, err := registryClient(s, p.host, *plain)
			if err != nil {
				return err
			}
			tags, err := r.Tags(c.Context(), p.repo)
			printLines(s, tags)
			return err
		}}
}

func printLines(s *session.Session, lines []string) {
	for _, l := range lines {
		s.Printf("%s\n", l)
	}
}

// inspected is what is shown of a manifest.
type inspected struct {
	Name      string          `json:"name"`
	Digest    string          `json:"digest"`
	MediaType string          `json:"mediaType"`
	Manifest  json.RawMessage `json:"manifest"`
	Referrers any             `json:"referrers"`
}

func registryInspect(s *session.Session, plain *bool) *cobra.Command {
	return &cobra.Command{Use: "inspect IMAGE", Short: "Show a manifest and what refers to it", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := parsePlace(args[0])
			if err != nil {
				return err
			}
			if p.ref == "" {
				p.ref = "latest"
			}
			r, err := registryClient(s, p.host, *plain)
			if err != nil {
				return err
			}
			m, err := r.Manifest(c.Context(), p.repo, p.ref)
			if err != nil {
				return err
			}
			found, err := r.Referrers(c.Context(), p.repo, m.Digest)
			if err != nil {
				return err
			}
			data, err := json.Marshal(inspected{args[0], m.Digest, m.MediaType, m.Body, found})
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, data, "", "    "); err != nil {
				return err
			}
			s.Printf("%s\n", out.String())
			return nil
		}}
}

func registryRemove(s *session.Session, plain *bool) *cobra.Command {
	return &cobra.Command{Use: "rm IMAGE [IMAGE...]", Short: "Remove tags, or manifests by their digests", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				p, err := parsePlace(name)
				if err != nil {
					return err
				}
				if p.ref == "" {
					return fmt.Errorf("%s: name the tag or the digest to remove", name)
				}
				r, err := registryClient(s, p.host, *plain)
				if err != nil {
					return err
				}
				if err := r.Delete(c.Context(), p.repo, p.ref); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				s.Printf("%s\n", name)
			}
			return nil
		}}
}

func registryCollect(s *session.Session, plain *bool) *cobra.Command {
	dry := false
	c := &cobra.Command{Use: "gc [OPTIONS] REGISTRY", Short: "Make an Orlop registry remove what is old", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := registryClient(s, args[0], *plain)
			if err != nil {
				return err
			}
			removed, unlinked, err := r.Collect(c.Context(), dry)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.Out, 0, 0, 3, ' ', 0)
			for _, x := range removed {
				name := x.Repository + "@" + x.Digest
				if x.Tag != "" {
					name = x.Repository + ":" + x.Tag
				}
				fmt.Fprintln(w, strings.Join([]string{name, x.Why}, "\t"))
			}
			if err := w.Flush(); err != nil || dry {
				return err
			}
			s.Printf("%d tags and manifests removed, %d blobs unlinked\n", len(removed), unlinked)
			return nil
		}}
	c.Flags().BoolVar(&dry, "dry-run", false, "Only show what would be removed")
	return c
}
