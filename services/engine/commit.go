package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/services/archive/packed"
	"github.com/orlop/orlop/services/diff"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Commitment says what image is made of a container.
type Commitment struct {
	// Repo and Tag name the image; without them it has no name.
	Repo, Tag       string
	Author, Comment string
	// Pause stops the container meanwhile, so that its files fit together.
	Pause bool
	// Changes are instructions of a Dockerfile.
	Changes []string
	// Config, where set, goes over the container's.
	Config *api.Config
}

// emptyTar is the size of an archive without files: its end alone, in bytes.
const emptyTar = 1024

// Commit makes an image of a container's tree and config, and returns its ID.
func (e *Engine) Commit(ctx context.Context, ref string, o Commitment) (digest.Digest, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return "", err
	}
	name, err := imageName(o.Repo, o.Tag)
	if err != nil {
		return "", err
	}
	ctx, end, err := lease.Hold(e.in(ctx), e.Leases, "commit", makingLife)
	if err != nil {
		return "", err
	}
	defer end(false)
	v := e.view(c)
	config := v.Config
	if o.Config != nil {
		config = o.Config
	}
	if config, err = change(config, o.Changes); err != nil {
		return "", err
	}
	config = merge(*config, v.Config)
	img, err := e.FindImage(ctx, v.ImageID)
	if err != nil {
		return "", err
	}
	parent, err := e.Details(ctx, img, anyPlatform)
	if err != nil {
		return "", err
	}
	goOn := func() {}
	if o.Pause {
		goOn = e.hush(ctx, c)
	}
	made, err := e.committedLayer(ctx, c)
	goOn()
	if err != nil {
		return "", err
	}
	n := newImage{parent: parent, config: config, author: o.Author, comment: o.Comment, createdBy: strings.Join(v.Config.Cmd, " "), name: name}
	if made.Size > emptyTar {
		n.layer = &made
	}
	id, err := e.putImage(ctx, n)
	if err == nil {
		e.tell(c, "commit", "comment", o.Comment, "imageID", id.String(), "imageRef", name)
	}
	return id, err
}

// imageName is a whole reference; "" if no name is asked for.
func imageName(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	named, err := parseName(joinTag(repo, tag))
	if err != nil {
		return "", err
	}
	if _, ok := named.(reference.Digested); ok {
		return "", invalid("cannot import digest reference")
	}
	return named.String(), nil
}

// hush pauses a container that runs; call the result to let it go on.
func (e *Engine) hush(ctx context.Context, c *Container) (goOn func()) {
	if s := c.state(); !s.Running || s.Paused {
		return func() {}
	}
	if err := e.Pause(ctx, c.ID); err != nil {
		log.G(ctx).WithError(err).Warnf("container %s is committed while it runs", c.ID)
		return func() {}
	}
	return func() {
		if err := e.Unpause(e.detached(ctx), c.ID); err != nil {
			log.G(ctx).WithError(err).Warnf("container %s stays paused", c.ID)
		}
	}
}

// committedLayer makes a layer of what the container has changed; the places where
// the runtime mounted things are no change of its own.
func (e *Engine) committedLayer(ctx context.Context, c *Container) (made diff.Layer, err error) {
	own, err := e.mountPoints(ctx, c)
	if err != nil {
		return made, err
	}
	err = e.trees(ctx, c, func(below, above string) error {
		made, err = diff.WriteLayer(ctx, e.Content, func(w io.Writer) error {
			return layer.Diff(ctx, below, above, w, layer.DiffOptions{Leave: func(file string) bool { return own[path.Join("/", file)] }})
		})
		return err
	})
	return made, err
}

// newImage is an image to be made.
type newImage struct {
	parent          *Details // nil: it has none
	platform        ocispec.Platform
	config          *api.Config
	layer           *diff.Layer // nil: nothing has changed
	author, comment string
	createdBy       string
	name            string // "": it is dangling
}

// imageConfig makes the config blob's content.
func (n *newImage) imageConfig() dockerspec.DockerOCIImage {
	at := now()
	c := n.config
	out := dockerspec.DockerOCIImage{}
	out.Created, out.Author = &at, n.author
	out.Platform = n.platform
	out.RootFS.Type = "layers"
	if n.parent != nil {
		out.Platform = n.parent.Config.Platform
		out.RootFS.DiffIDs = slices.Clone(n.parent.Config.RootFS.DiffIDs)
		out.History = slices.Clone(n.parent.Config.History)
	}
	out.History = append(out.History, ocispec.History{Created: &at, CreatedBy: n.createdBy, Author: n.author, Comment: n.comment, EmptyLayer: n.layer == nil})
	if n.layer != nil {
		out.RootFS.DiffIDs = append(out.RootFS.DiffIDs, n.layer.DiffID)
	}
	out.Config.ImageConfig = ocispec.ImageConfig{User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
		WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal}
	if len(c.ExposedPorts) > 0 {
		out.Config.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			out.Config.ExposedPorts[p.String()] = struct{}{}
		}
	}
	out.Config.Healthcheck, out.Config.OnBuild, out.Config.Shell = c.Healthcheck, c.OnBuild, c.Shell
	return out
}

// putImage writes an image's blobs, unpacks it, and names it at last.
func (e *Engine) putImage(ctx context.Context, n newImage) (digest.Digest, error) {
	config, err := json.Marshal(n.imageConfig())
	if err != nil {
		return "", err
	}
	whole := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: descriptor(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{}}
	if n.parent != nil {
		for _, l := range n.parent.Manifest.Layers {
			l.MediaType = ociLayer(l.MediaType)
			whole.Layers = append(whole.Layers, l)
		}
	}
	if n.layer != nil {
		whole.Layers = append(whole.Layers, n.layer.Desc)
	}
	body, err := json.MarshalIndent(whole, "", "  ")
	if err != nil {
		return "", err
	}
	target := descriptor(ocispec.MediaTypeImageManifest, body)
	m := manifest.Image{Desc: target}
	if m.Manifest, err = manifest.Parse(target, body); err != nil {
		return "", err
	}
	if err := content.WriteBlob(ctx, e.Content, "config-"+whole.Config.Digest.String(), bytes.NewReader(config), whole.Config, nil); err != nil {
		return "", err
	}
	if err := content.WriteBlob(ctx, e.Content, "manifest-"+target.Digest.String(), bytes.NewReader(body), target, m.Labels()); err != nil {
		return "", err
	}
	p := n.imageConfig().Platform
	if err := e.Unpack.Image(ctx, []unpack.Target{{Platform: platforms.Normalize(p), Snapshotter: e.Snapshotter(ctx)}}, m, nil); err != nil {
		return "", err
	}
	name := n.name
	if name == "" {
		name = dangling + "@" + target.Digest.String()
	}
	if err := e.name(ctx, name, target); err != nil {
		return "", err
	}
	if n.name != "" {
		e.tellImage("tag", target.Digest.String(), familiar(n.name))
	}
	return target.Digest, nil
}

func descriptor(mediaType string, body []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
}

// ociLayer is a layer's media type as manifests of the image-spec call it.
func ociLayer(mediaType string) string {
	switch mediaType {
	case "application/vnd.docker.image.rootfs.diff.tar.gzip":
		return ocispec.MediaTypeImageLayerGzip
	case "application/vnd.docker.image.rootfs.diff.tar":
		return ocispec.MediaTypeImageLayer
	}
	return mediaType
}

// Importation says what image is made of an archive of a file system.
type Importation struct {
	Repo, Tag string
	Message   string
	Changes   []string
	Platform  ocispec.Platform
}

// Import makes an image of an archive of a file system, which may be compressed.
func (e *Engine) Import(ctx context.Context, o Importation, body io.Reader) (digest.Digest, error) {
	name, err := imageName(o.Repo, o.Tag)
	if err != nil {
		return "", err
	}
	config, err := change(&api.Config{}, o.Changes)
	if err != nil {
		return "", err
	}
	if o.Platform.OS == "" {
		o.Platform = platforms.DefaultSpec()
	}
	ctx, end, err := lease.Hold(e.in(ctx), e.Leases, "import", makingLife)
	if err != nil {
		return "", err
	}
	defer end(false)
	tar, err := packed.Open(body)
	if err != nil {
		return "", invalid("the archive can't be read: %v", err)
	}
	defer tar.Close()
	made, err := diff.WriteLayer(ctx, e.Content, func(w io.Writer) error {
		_, err := io.Copy(w, tar)
		return err
	})
	if err != nil {
		return "", err
	}
	id, err := e.putImage(ctx, newImage{platform: o.Platform, config: config, layer: &made, comment: o.Message, name: name})
	if err != nil {
		return "", extractError(err)
	}
	e.tellImage("import", id.String(), familiar(name))
	return id, nil
}
