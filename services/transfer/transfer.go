// Package transfer moves images between registries, the store and archives, as
// one call with a source and a destination:
//
//	Registry -> Store   pull, and unpack
//	Store -> Registry   push
//	Store -> Store      tag
//	Import -> Store     read an archive, and unpack
//	Store -> Export     write an archive
//
// Each is done by its own package; here are the names that images get. A transfer
// ends with its context, at once. A Service is safe for concurrent use and keeps
// nothing.
package transfer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/unpack"
)

// leaseLife is how long the lease of a transfer that was killed lives on.
const leaseLife = 24 * time.Hour

// Config says how registries are reached.
type Config struct {
	// ConfigPath lists folders with <host>/hosts.toml files.
	ConfigPath []string `toml:"config_path"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config {
	return Config{ConfigPath: []string{"/etc/orlop/certs.d", "/etc/containerd/certs.d"}}
}

// Registry is an image in a registry.
type Registry struct {
	Reference string
	// HostDir is searched for hosts.toml files instead of the daemon's folders.
	HostDir string
	// PlainHTTP uses http for the reference's host; loopback always does.
	PlainHTTP   bool
	Header      map[string]string
	Credentials remote.CredentialFunc
}

// Store is an image in the store.
type Store struct {
	// Name is its name; it may be empty where Extra has others.
	Name   string
	Labels map[string]string
	// Platforms are those whose content is moved; empty is all.
	Platforms   []ocispec.Platform
	AllMetadata bool
	Limit       int
	Extra       []Reference
	Unpacks     []unpack.Target
}

// Import is an archive to read.
type Import struct {
	From     io.Reader
	Compress bool
}

// Export is an archive to write. To is closed at the end, without error only if
// the archive is whole.
type Export struct {
	To      io.WriteCloser
	Options archive.ExportOptions
}

// Parts do the work.
type Parts struct {
	Content content.Store
	Images  image.Store
	Leases  lease.Manager
	Puller  *pull.Puller
	Pusher  *push.Pusher
	Archive *archive.Archiver
	Unpack  *unpack.Unpacker
}

// Service transfers.
type Service struct {
	cfg Config
	Parts
}

// New makes a Service.
func New(cfg Config, parts Parts) *Service { return &Service{cfg, parts} }

// Transfer moves an image from a source to a destination, which are some of
// Registry, Store, Import and Export; other pairs are NotImplemented.
func (s *Service) Transfer(ctx context.Context, from, to any, report progress.Func) error {
	switch from := from.(type) {
	case Registry:
		if to, ok := to.(Store); ok {
			return s.pull(ctx, from, to, report)
		}
	case Import:
		if to, ok := to.(Store); ok {
			return s.read(ctx, from, to, report)
		}
	case Store:
		switch to := to.(type) {
		case Registry:
			_, err := s.Pusher.Push(ctx, push.Request{
				Client: s.client(to), Image: from.Name, Reference: to.Reference, Platforms: from.Platforms, Report: report,
			})
			return err
		case Store:
			return s.tag(ctx, from, to)
		case Export:
			return s.write(ctx, from, to, report)
		}
	}
	return fmt.Errorf("transfer from %T to %T: %w", from, to, errdefs.ErrNotImplemented)
}

func (s *Service) client(r Registry) *remote.Client {
	cfg := remote.Config{HostDirs: s.cfg.ConfigPath, Credentials: r.Credentials, Header: map[string][]string{}}
	if r.HostDir != "" {
		cfg.HostDirs = []string{r.HostDir}
	}
	if ref, err := remote.ParseReference(r.Reference); err == nil && r.PlainHTTP {
		cfg.PlainHTTP = []string{ref.Host}
	}
	for k, v := range r.Header {
		cfg.Header[k] = []string{v}
	}
	return remote.New(cfg)
}

func (s *Service) pull(ctx context.Context, from Registry, to Store, report progress.Func) error {
	_, err := s.Puller.Pull(ctx, pull.Request{
		Client: s.client(from), Reference: from.Reference, Platforms: to.Platforms, AllMetadata: to.AllMetadata, Limit: to.Limit,
		Unpacks: to.Unpacks, Report: report,
		Name: func(ctx context.Context, target ocispec.Descriptor) error {
			if to.Name == "" && len(to.Extra) == 0 {
				to.Name = from.Reference
			}
			_, err := s.name(ctx, to.images(target))
			return err
		},
	})
	return err
}

func (s *Service) tag(ctx context.Context, from, to Store) error {
	if to.Name == "" {
		return fmt.Errorf("tag %q: no new name: %w", from.Name, errdefs.ErrInvalidArgument)
	}
	img, err := s.Images.Get(ctx, from.Name)
	if err != nil {
		return err
	}
	labels := to.Labels
	if len(labels) == 0 {
		labels = img.Labels
	}
	_, err = s.name(ctx, []image.Image{{Name: to.Name, Target: img.Target, Labels: labels}})
	return err
}

// read imports an archive.
func (s *Service) read(ctx context.Context, from Import, to Store, report progress.Func) error {
	ctx, end, err := lease.Hold(ctx, s.Leases, "import", leaseLife)
	if err != nil {
		return err
	}
	defer end(false)
	report.Report(progress.Step{Event: "Importing"})
	target, index, err := s.Archive.Import(ctx, from.From, archive.ImportOptions{Compress: from.Compress, Report: report})
	if err != nil {
		return err
	}
	var names []image.Image
	if to.Name != "" {
		names = to.images(target)
	}
	found := 0
	for _, desc := range index.Manifests {
		ok, err := s.adopt(ctx, desc, to, report)
		if err != nil {
			return fmt.Errorf("import %s: %w", desc.Digest, err)
		}
		if ok {
			found++
			names = append(names, to.imported(desc)...)
		}
	}
	switch {
	case found == 0:
		return fmt.Errorf("import: the archive has no image for the wanted platforms, or none is complete: %w", errdefs.ErrNotFound)
	case len(names) == 0:
		return fmt.Errorf("import: the archive doesn't name its images; give a name: %w", errdefs.ErrNotFound)
	}
	if to.Name != "" {
		if err := s.link(ctx, target, nil, 0); err != nil {
			return err
		}
	}
	saved, err := s.name(ctx, names)
	for _, img := range saved {
		report.Report(progress.Step{Event: "saved", Name: img.Name, Desc: &img.Target})
	}
	return err
}

// adopt links and unpacks an imported image; it reports whether there is anything
// of the wanted platforms.
func (s *Service) adopt(ctx context.Context, desc ocispec.Descriptor, to Store, report progress.Func) (bool, error) {
	var match platforms.Matcher
	if len(to.Platforms) > 0 {
		match = platforms.Any(to.Platforms...)
	}
	chosen, err := manifest.Select(ctx, s.Content, desc, match)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.link(ctx, desc, match, 0); err != nil {
		return false, err
	}
	for _, m := range chosen.Images {
		if err := s.Unpack.Image(ctx, to.Unpacks, m, report); err != nil {
			return false, err
		}
	}
	return true, nil
}

// link makes manifests hold what hangs on them, as far as it is there, and of several
// platforms those that match; nil matches all.
func (s *Service) link(ctx context.Context, desc ocispec.Descriptor, match platforms.Matcher, depth int) error {
	m, _, err := manifest.Load(ctx, s.Content, desc)
	if errdefs.IsNotFound(err) || depth > manifest.MaxDepth {
		return nil
	}
	if err != nil {
		return err
	}
	labels := m.Labels() // by position: what is held already stays so
	wanted := m.For(match)
	for _, child := range wanted {
		if err := s.link(ctx, child, match, depth+1); err != nil {
			return err
		}
	}
	if m.Index {
		maps.DeleteFunc(labels, func(_, d string) bool {
			return !slices.ContainsFunc(wanted, func(w ocispec.Descriptor) bool { return w.Digest.String() == d })
		})
	}
	paths := make([]string, 0, len(labels))
	for k := range labels {
		paths = append(paths, "labels."+k)
	}
	if len(paths) == 0 {
		return nil
	}
	_, err = s.Content.Update(ctx, content.Info{Digest: desc.Digest, Labels: labels}, paths...)
	return err
}

// write exports an archive.
func (s *Service) write(ctx context.Context, from Store, to Export, report progress.Func) error {
	ctx, end, err := lease.Hold(ctx, s.Leases, "export", leaseLife)
	if err != nil {
		return err
	}
	defer end(false)
	images, err := s.lookup(ctx, from)
	if err != nil {
		return err
	}
	report.Report(progress.Step{Event: "Exporting"})
	to.Options.Report = report
	if err := s.Archive.Export(ctx, to.To, images, to.Options); err != nil {
		return err
	}
	report.Report(progress.Step{Event: "Completed export"})
	return to.To.Close()
}
