package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/distribution"
	"github.com/orlop/orlop/cmd/orlop/internal/manifest"
)

func manifestPush(s *session.Session) *cobra.Command {
	var purge, insecure bool
	c := &cobra.Command{Use: "push [OPTIONS] MANIFEST_LIST", Short: "Push a list to its repository", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := manifestName(args[0])
			if err != nil {
				return err
			}
			store := manifestStore(s)
			all, err := store.All(list)
			if errors.Is(err, manifest.ErrNone) {
				return fmt.Errorf("%s not found", list)
			}
			if err != nil {
				return err
			}
			r, err := manifestRegistry(s, list, insecure)
			if err != nil {
				return err
			}
			if err := pushList(c.Context(), s, r, list, all); err != nil || !purge {
				return err
			}
			return store.Remove(list)
		}}
	c.Flags().BoolVarP(&purge, "purge", "p", false, "Forget the list here when it is pushed")
	c.Flags().BoolVar(&insecure, "insecure", false, "Use plain HTTP with registries beyond this machine")
	return c
}

// pushList brings the images into the list's repository, and the list.
func pushList(ctx context.Context, s *session.Session, r *distribution.Client, list reference.Named, all []manifest.Entry) error {
	kind, body, err := manifest.Index(all)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := bring(ctx, s, r, list, e); err != nil {
			return err
		}
	}
	d, err := r.Put(ctx, reference.Path(list), parseRef(list), kind, body)
	if err == nil {
		s.Printf("%s\n", d)
	}
	return err
}

// bring has the list's repository get an image of another repository of its registry.
func bring(ctx context.Context, s *session.Session, r *distribution.Client, list reference.Named, e manifest.Entry) error {
	from, err := reference.ParseNormalizedNamed(e.Ref)
	if err != nil {
		return err
	}
	if reference.Domain(from) != reference.Domain(list) {
		return fmt.Errorf("cannot use source images from a different registry than the target image: %s != %s", reference.Domain(from), reference.Domain(list))
	}
	to := reference.Path(list)
	if reference.Path(from) == to {
		return nil
	}
	blobs, err := e.Blobs()
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if err := r.Mount(ctx, to, b.Digest, reference.Path(from)); err != nil {
			return err
		}
	}
	d, err := r.Put(ctx, to, e.Descriptor.Digest.String(), e.Descriptor.MediaType, e.Raw)
	if err == nil {
		s.Printf("Pushed ref %s@%s with digest: %s\n", list.Name(), e.Descriptor.Digest, d)
	}
	return err
}

func manifestInspect(s *session.Session) *cobra.Command {
	var verbose, insecure bool
	c := &cobra.Command{Use: "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST", Short: "Show a manifest or a list", Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := manifestNames(args)
			if err != nil {
				return err
			}
			var shown any
			if len(names) == 2 {
				var e manifest.Entry
				if e, err = manifestStore(s).Get(names[0], names[1]); err == nil {
					shown = shownEntry(e, verbose)
				}
			} else {
				shown, err = inspectManifest(c.Context(), s, names[0], verbose, insecure)
			}
			if errors.Is(err, manifest.ErrNone) {
				err = fmt.Errorf("no such manifest: %s", args[len(args)-1])
			}
			if err != nil {
				return err
			}
			text, err := indented(shown)
			s.Printf("%s", text)
			return err
		}}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show descriptors, too")
	c.Flags().BoolVar(&insecure, "insecure", false, "Use plain HTTP with registries beyond this machine")
	return c
}

func shownEntry(e manifest.Entry, verbose bool) any {
	if verbose {
		return e
	}
	return json.RawMessage(e.Raw)
}

// inspectManifest shows a list that was begun here, or else what a registry has.
func inspectManifest(ctx context.Context, s *session.Session, n reference.Named, verbose, insecure bool) (any, error) {
	all, err := manifestStore(s).All(n)
	if err == nil {
		if verbose {
			return all, nil
		}
		_, body, err := manifest.Index(all)
		return json.RawMessage(body), err
	}
	if !errors.Is(err, manifest.ErrNone) {
		return nil, err
	}
	r, err := manifestRegistry(s, n, insecure)
	if err != nil {
		return nil, err
	}
	m, err := fetchManifest(ctx, r, n)
	if err != nil || !verbose {
		return json.RawMessage(m.Body), err
	}
	if !manifest.IsList(m.MediaType) {
		return fetchEntry(ctx, s, n, insecure)
	}
	return inspectAll(ctx, s, n, m.Body, insecure)
}

// inspectAll shows each manifest of a list.
func inspectAll(ctx context.Context, s *session.Session, n reference.Named, body []byte, insecure bool) (any, error) {
	var list ocispec.Index
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("list %s: %w", n, err)
	}
	var out []manifest.Entry
	for _, d := range list.Manifests {
		one, err := reference.WithDigest(reference.TrimNamed(n), d.Digest)
		if err != nil {
			return nil, err
		}
		e, err := fetchEntry(ctx, s, one, insecure)
		if err != nil {
			return nil, err
		}
		e.Descriptor.Platform = d.Platform
		out = append(out, e)
	}
	return out, nil
}
