package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/manifest"
)

// ExportOptions tune [Archiver.Export].
type ExportOptions struct {
	// Platforms to write; empty is the host's. AllPlatforms writes all that the
	// store has whole.
	Platforms    []ocispec.Platform
	AllPlatforms bool
	// SkipDocker leaves out Docker's manifest.json.
	SkipDocker bool
	// SkipForeign leaves out layers that may not be passed on.
	SkipForeign bool
	Report      progress.Func
}

func (o ExportOptions) matcher() platforms.Matcher {
	switch {
	case o.AllPlatforms:
		return nil
	case len(o.Platforms) > 0:
		return platforms.Any(o.Platforms...)
	}
	return platforms.OnlyStrict(platforms.DefaultSpec())
}

// Export writes images as one archive. Blobs are verified on the way; a damaged
// one ends the archive in the middle.
func (a *Archiver) Export(ctx context.Context, w io.Writer, images []image.Image, o ExportOptions) error {
	x := &exporter{Archiver: a, ctx: ctx, options: o, blobs: map[digest.Digest]ocispec.Descriptor{}, made: map[digest.Digest][]byte{}}
	for _, img := range images {
		if err := x.add(img); err != nil {
			return fmt.Errorf("export %q: %w", img.Name, err)
		}
	}
	return x.write(w)
}

// exporter is one export.
type exporter struct {
	*Archiver
	ctx     context.Context
	options ExportOptions

	index  []ocispec.Descriptor
	docker []dockerImage
	blobs  map[digest.Digest]ocispec.Descriptor
	made   map[digest.Digest][]byte // those that aren't in the store
}

func (x *exporter) add(img image.Image) error {
	chosen, err := manifest.Select(x.ctx, x.store, img.Target, x.options.matcher())
	if err != nil {
		return err
	}
	for _, m := range chosen.Images {
		x.blobs[m.Desc.Digest] = m.Desc
		for _, d := range m.All() {
			x.addBlob(d)
		}
	}
	for _, idx := range chosen.Indexes {
		x.blobs[idx.Desc.Digest], x.made[idx.Desc.Digest] = idx.Desc, idx.Body
	}
	root := chosen.Root
	root.Annotations = map[string]string{}
	for k, v := range chosen.Root.Annotations {
		root.Annotations[k] = v
	}
	root.Annotations[NameAnnotation] = img.Name
	delete(root.Annotations, ocispec.AnnotationRefName)
	if tag := tagOf(img.Name); tag != "" {
		root.Annotations[ocispec.AnnotationRefName] = tag
	}
	x.index = append(x.index, root)
	return x.addDocker(img.Name, chosen.Images)
}

func (x *exporter) addBlob(d ocispec.Descriptor) {
	if manifest.IsForeign(d.MediaType) {
		if _, err := x.store.Info(x.ctx, d.Digest); x.options.SkipForeign || errdefs.IsNotFound(err) {
			return
		}
	}
	x.blobs[d.Digest] = d
}

func tagOf(name string) string {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	if t, ok := named.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// addDocker lists the image that Docker would take: the one for this host, or the
// only one.
func (x *exporter) addDocker(name string, images []manifest.Image) error {
	host := platforms.Only(platforms.DefaultSpec())
	var only []manifest.Image
	for _, m := range images {
		if !manifest.IsImageConfig(m.Config.MediaType) {
			continue
		}
		p, err := manifest.Platform(x.ctx, x.store, m.Desc, m.Manifest)
		if err != nil {
			return err
		}
		if host.Match(p) {
			only = []manifest.Image{m}
			break
		}
		if p.OS != "unknown" { // which marks attestations
			only = append(only, m)
		}
	}
	if len(only) != 1 {
		return nil
	}
	item := dockerImage{Config: blobPath(only[0].Config.Digest), Layers: []string{}}
	for _, l := range only[0].Layers {
		item.Layers = append(item.Layers, blobPath(l.Digest))
	}
	if named, err := reference.ParseDockerRef(name); err == nil {
		if tagged, ok := named.(reference.NamedTagged); ok {
			item.RepoTags = []string{reference.FamiliarString(tagged)}
		}
	}
	i := slices.IndexFunc(x.docker, func(d dockerImage) bool { return d.Config == item.Config })
	if i < 0 {
		x.docker = append(x.docker, item)
	} else {
		x.docker[i].RepoTags = append(x.docker[i].RepoTags, item.RepoTags...)
	}
	return nil
}

func blobPath(d digest.Digest) string {
	return blobsFolder + d.Algorithm().String() + "/" + d.Encoded()
}

// write writes everything, the index last, when all it names is there.
func (x *exporter) write(out io.Writer) error {
	t := tar.NewWriter(&contextWriter{x.ctx, out})
	if err := x.json(t, layoutFile, ocispec.ImageLayout{Version: layoutSchema}); err != nil {
		return err
	}
	all := make([]ocispec.Descriptor, 0, len(x.blobs))
	folders := []string{blobsFolder}
	for _, d := range x.blobs {
		all = append(all, d)
		if f := blobsFolder + d.Digest.Algorithm().String() + "/"; !slices.Contains(folders, f) {
			folders = append(folders, f)
		}
	}
	slices.Sort(folders)
	slices.SortFunc(all, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	for _, f := range folders {
		if err := t.WriteHeader(&tar.Header{Name: f, Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return err
		}
	}
	for _, d := range all {
		if err := x.blob(t, d); err != nil {
			return fmt.Errorf("export blob %s: %w", d.Digest, err)
		}
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: x.index}
	if err := x.json(t, indexFile, index); err != nil {
		return err
	}
	if len(x.docker) > 0 && !x.options.SkipDocker {
		if err := x.json(t, dockerFile, x.docker); err != nil {
			return err
		}
	}
	return t.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o444, Size: size, Typeflag: tar.TypeReg}
}

func (x *exporter) json(t *tar.Writer, name string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(header(name, int64(len(body)))); err != nil {
		return err
	}
	_, err = t.Write(body)
	return err
}

func (x *exporter) blob(t *tar.Writer, d ocispec.Descriptor) error {
	r, size, done, err := x.open(d)
	if err != nil {
		return err
	}
	defer done()
	if err := t.WriteHeader(header(blobPath(d.Digest), size)); err != nil {
		return err
	}
	step := progress.Step{Event: "exporting", Name: manifest.Key(d), Total: size, Desc: &d}
	x.options.Report.Report(step)
	verifier := d.Digest.Verifier()
	if _, err := io.CopyBuffer(struct{ io.Writer }{t}, io.TeeReader(x.options.Report.NewReader(r, step), verifier), make([]byte, copyBuffer)); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("it is damaged in the store: %w", errdefs.ErrDataLoss)
	}
	step.Event, step.Done = "complete", size
	x.options.Report.Report(step)
	return nil
}

func (x *exporter) open(d ocispec.Descriptor) (r io.Reader, size int64, done func(), err error) {
	if body, ok := x.made[d.Digest]; ok {
		return bytes.NewReader(body), int64(len(body)), func() {}, nil
	}
	ra, err := x.store.ReaderAt(x.ctx, d)
	if err != nil {
		return nil, 0, nil, err
	}
	return io.NewSectionReader(ra, 0, ra.Size()), ra.Size(), func() { ra.Close() }, nil
}

// contextWriter ends with its context.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c *contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// storeBytes stores a blob that was made here.
func storeBytes(ctx context.Context, store content.Store, desc ocispec.Descriptor, body []byte) error {
	return content.WriteBlob(ctx, store, "import-"+rand.Text(), bytes.NewReader(body), desc, nil)
}
