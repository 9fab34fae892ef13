package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/layer"
)

// store writes a small blob that is at hand.
func (j *job) store(ctx context.Context, desc ocispec.Descriptor, body []byte, labels map[string]string) error {
	j.addSource(labels)
	if err := content.WriteBlob(ctx, j.stores.Content, "blob-"+desc.Digest.String(), bytes.NewReader(body), desc, labels); err != nil {
		return err
	}
	return j.relabel(ctx, desc.Digest, labels)
}

// addSource notes where a blob came from, so that a push can mount it.
func (j *job) addSource(labels map[string]string) {
	labels[label.DistributionFrom+j.ref.Host] = j.ref.Repository
}

// relabel adds labels to a blob that may have been there before with fewer.
func (j *job) relabel(ctx context.Context, dgst digest.Digest, labels map[string]string) error {
	paths := make([]string, 0, len(labels))
	for k := range labels {
		paths = append(paths, "labels."+k)
	}
	_, err := j.stores.Content.Update(ctx, content.Info{Digest: dgst, Labels: labels}, paths...)
	return err
}

// config fetches an image's config and stores it.
func (j *job) config(ctx context.Context, desc ocispec.Descriptor) (ocispec.Image, error) {
	var img ocispec.Image
	if desc.Size > remote.MaxManifest {
		return img, fmt.Errorf("config %s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, remote.MaxManifest, errdefs.ErrInvalidArgument)
	}
	body, err := content.ReadBlob(ctx, j.stores.Content, desc, remote.MaxManifest)
	if err != nil {
		if body, err = j.fetchSmall(ctx, desc); err != nil {
			return img, err
		}
	}
	if err := json.Unmarshal(body, &img); err != nil {
		return img, fmt.Errorf("config %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	return img, j.store(ctx, desc, body, map[string]string{})
}

func (j *job) fetchSmall(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	r, err := j.Client.Blob(ctx, j.ref, desc, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, desc.Size+1))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(body); got != desc.Digest || int64(len(body)) != desc.Size {
		return nil, fmt.Errorf("blob %s: the registry sent %d bytes with digest %s: %w", desc.Digest, len(body), got, errdefs.ErrDataLoss)
	}
	return body, nil
}

// chainPlan is what an image's layers become in one snapshotter.
type chainPlan struct {
	into    snapshotters.LayerStore // nil: nothing to unpack
	name    string                  // of the snapshotter
	diffIDs []digest.Digest
	chains  []string
	have    int // how many of the lowest layers are unpacked already

	mu     sync.Mutex
	layers map[int]snapshotters.Layer
}

// plan looks which layers are unpacked already.
func (j *job) plan(ctx context.Context, cfg ocispec.Image, layers []ocispec.Descriptor) (*chainPlan, error) {
	p := &chainPlan{diffIDs: cfg.RootFS.DiffIDs, chains: chainIDs(cfg.RootFS.DiffIDs), layers: map[int]snapshotters.Layer{}}
	name, ok := j.snapshotterFor(cfg.Platform)
	if !ok {
		return p, nil
	}
	if len(p.diffIDs) != len(layers) {
		return nil, fmt.Errorf("the config names %d layers, the manifest %d: %w", len(p.diffIDs), len(layers), errdefs.ErrInvalidArgument)
	}
	into, err := j.stores.Layers(name)
	if err != nil {
		return nil, err
	}
	p.into, p.name = into, name
	for p.have < len(p.chains) {
		if _, err := into.Stat(ctx, p.chains[p.have]); err != nil {
			break
		}
		p.have++
	}
	return p, nil
}

func (j *job) snapshotterFor(have ocispec.Platform) (string, bool) {
	for _, u := range j.Unpacks {
		if u.Platform.OS == "" || have.OS == "" || platforms.Only(u.Platform).Match(have) {
			return u.Snapshotter, true
		}
	}
	return "", false
}

// unpacks reports whether layer i is still to be unpacked.
func (p *chainPlan) unpacks(i int) bool { return p.into != nil && i >= p.have }

func (p *chainPlan) add(i int, l snapshotters.Layer) {
	l.Name = p.chains[i]
	if i > 0 {
		l.Parent = p.chains[i-1]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers[i] = l
}

func (p *chainPlan) ordered() []snapshotters.Layer {
	var out []snapshotters.Layer
	for i := p.have; i < len(p.chains); i++ {
		if l, ok := p.layers[i]; ok {
			out = append(out, l)
		}
	}
	return out
}

func (p *chainPlan) commit(ctx context.Context) error {
	if p.into == nil || len(p.layers) == 0 {
		return nil
	}
	return p.into.CommitLayers(ctx, p.ordered())
}

func (p *chainPlan) drop(ctx context.Context) error {
	if p.into == nil {
		return nil
	}
	return p.into.DropLayers(ctx, p.ordered())
}

// linkConfig makes the config hold the snapshots.
func (j *job) linkConfig(ctx context.Context, config ocispec.Descriptor, p *chainPlan) error {
	if p.into == nil || len(p.chains) == 0 {
		return nil
	}
	top := p.chains[len(p.chains)-1]
	return j.relabel(ctx, config.Digest, map[string]string{label.GCSnapshot + p.name: top})
}

// layer brings one layer: from the store, or from the registry through one stream.
func (j *job) layer(ctx context.Context, image, desc ocispec.Descriptor, p *chainPlan, i int) error {
	progress := Progress{Name: "layer-" + desc.Digest.String(), Parents: []string{"manifest-" + image.Digest.String()}, Total: desc.Size, Desc: &desc}
	progress.Event = "waiting"
	j.report(progress)
	if err := j.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer j.slots.Release(1)
	w, err := j.stores.Content.Writer(ctx, content.WriterOptions{Ref: "layer-" + desc.Digest.String(), Descriptor: desc})
	switch {
	case errdefs.IsAlreadyExists(err):
		err = j.unpackStored(ctx, desc, p, i)
	case err != nil:
		return err
	default:
		defer w.Close()
		err = j.download(ctx, w, desc, p, i, progress)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	progress.Event, progress.Done = "complete", desc.Size
	j.report(progress)
	labels := map[string]string{}
	if i < len(p.diffIDs) {
		labels[label.Uncompressed] = p.diffIDs[i].String()
	}
	j.addSource(labels)
	return j.relabel(ctx, desc.Digest, labels)
}

// download fetches into the store and unpacks on the way. What an earlier pull
// left is kept: then the layer is unpacked from the store afterwards.
func (j *job) download(ctx context.Context, w content.Writer, desc ocispec.Descriptor, p *chainPlan, i int, progress Progress) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset > desc.Size {
		if err := w.Truncate(0); err != nil {
			return err
		}
		st.Offset = 0
	}
	streamed := st.Offset == 0 && p.unpacks(i)
	sink := io.Writer(w)
	var unpacking *unpacker
	if streamed {
		unpacking = startUnpack(ctx, p, i, desc)
		sink = io.MultiWriter(w, unpacking)
	}
	err = j.copyBlob(ctx, sink, desc, st.Offset, progress)
	if streamed {
		err = errors.Join(err, unpacking.finish(err))
	}
	if err != nil {
		return err
	}
	if err := w.Commit(ctx, desc.Size, desc.Digest, nil); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if p.unpacks(i) && !streamed {
		return j.unpackStored(ctx, desc, p, i)
	}
	return nil
}

// copyBlob reads at most what the descriptor promises and one byte more, so that
// a body without end is noticed.
func (j *job) copyBlob(ctx context.Context, sink io.Writer, desc ocispec.Descriptor, offset int64, progress Progress) error {
	if offset == desc.Size && offset > 0 {
		return nil
	}
	body, err := j.Client.Blob(ctx, j.ref, desc, offset)
	if err != nil {
		return err
	}
	defer body.Close()
	progress.Event = "downloading"
	r := &meter{r: io.LimitReader(body, desc.Size-offset+1), done: offset, tell: func(done int64) {
		progress.Done = done
		j.report(progress)
	}}
	n, err := io.CopyBuffer(struct{ io.Writer }{sink}, r, make([]byte, copyBuffer))
	if err == nil && n != desc.Size-offset {
		err = fmt.Errorf("the registry sent %d of %d bytes: %w", n, desc.Size-offset, errdefs.ErrDataLoss)
	}
	return err
}

// copyBuffer is how many bytes move from the network at once.
const copyBuffer = 256 << 10

// meterEvery is how many bytes pass between two reports.
const meterEvery = 1 << 20

type meter struct {
	r          io.Reader
	done, told int64
	tell       func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if m.done-m.told >= meterEvery {
		m.told = m.done
		m.tell(m.done)
	}
	return n, err
}

func (j *job) unpackStored(ctx context.Context, desc ocispec.Descriptor, p *chainPlan, i int) error {
	if !p.unpacks(i) {
		return nil
	}
	ra, err := j.stores.Content.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer ra.Close()
	return p.unpack(ctx, i, desc, io.NewSectionReader(ra, 0, ra.Size()))
}

// unpack decompresses, hashes and unpacks a layer blob, and checks its diff ID.
func (p *chainPlan) unpack(ctx context.Context, i int, desc ocispec.Descriptor, blob io.Reader) error {
	tar, err := layer.Decompress(blob, desc.MediaType)
	if err != nil {
		return err
	}
	defer tar.Close()
	verifier := p.diffIDs[i].Verifier()
	hashed := io.TeeReader(tar, verifier)
	l, err := p.into.UnpackLayer(ctx, hashed, map[string]string{label.SnapshotRef: p.chains[i]})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, hashed)
	if err == nil && !verifier.Verified() {
		err = fmt.Errorf("the uncompressed layer is not %s, as the config says: %w", p.diffIDs[i], errdefs.ErrDataLoss)
	}
	if err != nil {
		return errors.Join(err, p.into.DropLayers(context.WithoutCancel(ctx), []snapshotters.Layer{l}))
	}
	p.add(i, l)
	return nil
}

// unpacker unpacks what is written to it, in a goroutine of its own.
type unpacker struct {
	pipe *io.PipeWriter
	done chan error
}

func startUnpack(ctx context.Context, p *chainPlan, i int, desc ocispec.Descriptor) *unpacker {
	r, w := io.Pipe()
	u := &unpacker{pipe: w, done: make(chan error, 1)}
	go func() {
		err := p.unpack(ctx, i, desc, r)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // bytes after the compressed stream's end
		}
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		u.done <- err
	}()
	return u
}

func (u *unpacker) Write(p []byte) (int, error) { return u.pipe.Write(p) }

// finish ends the stream, with the download's error if it had one, and waits.
func (u *unpacker) finish(err error) error {
	u.pipe.CloseWithError(err) // nil means end of file
	unpackErr := <-u.done
	if err != nil && errors.Is(unpackErr, err) {
		return nil // the same trouble, told once
	}
	return unpackErr
}
