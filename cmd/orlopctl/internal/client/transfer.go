package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"time"

	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/transfer"
	"google.golang.org/protobuf/proto"
)

// Progress is told what a transfer is doing. Calls don't overlap.
type Progress func(*transfer.Progress)

// Registry is how a registry is talked to.
type Registry struct {
	// PlainHTTP uses http, as is done for loopback addresses anyway.
	PlainHTTP bool
	// HostsDir is a folder with hosts.toml files on the daemon's machine.
	HostsDir string
	// User is name:password, "" for what Docker's config file says.
	User string
}

// PullOptions say what is pulled.
type PullOptions struct {
	Registry
	// Platforms to fetch, such as linux/arm64; empty is this machine's.
	Platforms []string
	// AllPlatforms fetches all.
	AllPlatforms bool
	// NoUnpack only fetches.
	NoUnpack bool
	// Snapshotter to unpack with, "" for the daemon's default.
	Snapshotter string
	// Labels of the image.
	Labels map[string]string
}

// Pull fetches an image and unpacks it.
func (c *Client) Pull(ctx context.Context, ref string, o PullOptions, p Progress) error {
	store := &transfer.ImageStore{Name: ref, Labels: o.Labels}
	names := o.Platforms
	if len(names) == 0 && !o.AllPlatforms {
		names = []string{hostPlatform}
	}
	for _, name := range names {
		store.Platforms = append(store.Platforms, Platform(name))
	}
	if !o.NoUnpack {
		store.Unpacks = c.unpacks(ctx, o.Snapshotter, names)
	}
	source, done, err := c.registry(ctx, ref, o.Registry)
	if err != nil {
		return err
	}
	defer done()
	return c.transfer(ctx, source, store, p)
}

// hostPlatform is this machine's, which is the daemon's, too: it listens on a
// unix socket.
const hostPlatform = runtime.GOOS + "/" + runtime.GOARCH

// unpacks says what to unpack, with the daemon's best snapshotter if none is
// given: daemons have an idea of their own of what that means.
func (c *Client) unpacks(ctx context.Context, snapshotter string, platforms []string) []*transfer.UnpackConfiguration {
	if snapshotter == "" {
		if have := c.Snapshotters(ctx); len(have) > 0 {
			snapshotter = have[0]
		}
	}
	if len(platforms) == 0 {
		platforms = []string{hostPlatform}
	}
	var out []*transfer.UnpackConfiguration
	for _, p := range platforms {
		out = append(out, &transfer.UnpackConfiguration{Snapshotter: snapshotter, Platform: Platform(p)})
	}
	return out
}

// Push sends an image, or only some platforms of it, to a registry under the
// name ref.
func (c *Client) Push(ctx context.Context, local, ref string, platforms []string, o Registry, p Progress) error {
	store := &transfer.ImageStore{Name: local}
	for _, name := range platforms {
		store.Platforms = append(store.Platforms, Platform(name))
	}
	target, done, err := c.registry(ctx, ref, o)
	if err != nil {
		return err
	}
	defer done()
	return c.transfer(ctx, store, target, p)
}

// Tag gives an image another name.
func (c *Client) Tag(ctx context.Context, from, to string) error {
	return c.transfer(ctx, &transfer.ImageStore{Name: from}, &transfer.ImageStore{Name: to}, nil)
}

// registry describes a registry, with a stream over which the daemon asks for
// credentials. Its second result ends that stream.
func (c *Client) registry(ctx context.Context, ref string, o Registry) (*transfer.OCIRegistry, func(), error) {
	r := &transfer.OCIRegistry{Reference: ref, Resolver: &transfer.RegistryResolver{HostDir: o.HostsDir}}
	if o.PlainHTTP {
		r.Resolver.DefaultScheme = "http"
	}
	s, err := c.open(ctx, "auth-"+randomID())
	if err != nil {
		return nil, nil, err
	}
	r.Resolver.AuthStream = s.id
	go answerAuth(s, o.User)
	return r, s.end, nil
}

// ImportOptions say how an archive becomes images.
type ImportOptions struct {
	// Prefix names images that the archive has no whole name for, with their tag
	// or, if they have none, digest; default: import-<date>.
	Prefix string
	// Platforms to keep; empty is all in the archive.
	Platforms []string
	// NoUnpack only stores.
	NoUnpack bool
	// Snapshotter to unpack with, "" for the daemon's default.
	Snapshotter string
}

// Import reads an OCI or Docker archive.
func (c *Client) Import(ctx context.Context, r io.Reader, o ImportOptions, p Progress) error {
	prefix := o.Prefix
	if prefix == "" {
		prefix = "import-" + time.Now().Format(time.DateOnly)
	}
	if last := path.Base(prefix); strings.ContainsAny(last, ":@") {
		return fmt.Errorf("name %q has a tag or digest; give it without, the archive says which tag it holds", prefix)
	}
	store := &transfer.ImageStore{
		ExtraReferences: []*transfer.ImageReference{{Name: prefix, IsPrefix: true, AllowOverwrite: true, AddDigest: true, SkipNamedDigest: true}},
	}
	for _, name := range o.Platforms {
		store.Platforms = append(store.Platforms, Platform(name))
	}
	if !o.NoUnpack {
		store.Unpacks = c.unpacks(ctx, o.Snapshotter, o.Platforms)
	}
	s, err := c.open(ctx, "import-"+randomID())
	if err != nil {
		return err
	}
	defer s.end()
	sent := make(chan error, 1)
	go func() { sent <- s.sendAll(ctx, r) }()
	err = c.transfer(ctx, &transfer.ImageImportStream{Stream: s.id}, store, p)
	s.end()
	if e := <-sent; err == nil && e != nil && !errors.Is(e, context.Canceled) {
		err = e
	}
	return err
}

// Export writes images as an archive that both OCI tools and Docker read.
func (c *Client) Export(ctx context.Context, w io.Writer, name string, platforms []string, all bool, p Progress) error {
	stream := &transfer.ImageExportStream{AllPlatforms: all}
	for _, name := range platforms {
		stream.Platforms = append(stream.Platforms, Platform(name))
	}
	s, err := c.open(ctx, "export-"+randomID())
	if err != nil {
		return err
	}
	defer s.end()
	stream.Stream = s.id
	end := &tarEnd{w: w}
	received := make(chan error, 1)
	go func() { received <- s.receiveAll(end, end.ended) }()
	if err := c.transfer(ctx, &transfer.ImageStore{Name: name}, stream, p); err != nil {
		return err
	}
	if err := <-received; err != nil {
		return err
	}
	if !end.ended() {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// transfer makes the call, with a stream of progress beside it.
func (c *Client) transfer(ctx context.Context, source, target proto.Message, p Progress) error {
	from, err := pack(source)
	if err != nil {
		return err
	}
	to, err := pack(target)
	if err != nil {
		return err
	}
	o := &transferapi.TransferOptions{}
	if p != nil {
		s, err := c.open(ctx, "progress-"+randomID())
		if err != nil {
			return err
		}
		defer s.end()
		o.ProgressStream = s.id
		reported := make(chan struct{})
		go func() {
			defer close(reported)
			s.progress(p)
		}()
		defer func() { s.end(); <-reported }()
	}
	_, err = transferapi.NewTransferClient(c.conn).Transfer(ctx, &transferapi.TransferRequest{Source: from, Destination: to, Options: o})
	return err
}

// progress hands on what the daemon tells until the stream ends.
func (s *stream) progress(p Progress) {
	for {
		a, err := s.recv()
		if err != nil {
			return
		}
		var m transfer.Progress
		if ok, err := Unpack(a, &m); ok && err == nil {
			p(&m)
		}
	}
}

// Platform reads os/architecture[/variant].
func Platform(text string) *types.Platform {
	parts := append(strings.SplitN(text, "/", 3), "", "")
	return &types.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}
