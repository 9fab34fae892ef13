package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/unpack"
)

const (
	// copyBuffer is how many bytes move from the network at once.
	copyBuffer = 256 << 10
	// fetchTries is how often a download is taken up again that brings nothing.
	fetchTries = 5
	// fetchPause is how long the first of them waits; each further one twice as
	// long.
	fetchPause = 100 * time.Millisecond
	// writerPause is how long we wait at first for somebody else who writes the
	// same blob, and maxWriterPause at most at once.
	writerPause    = 10 * time.Millisecond
	maxWriterPause = time.Second
)

// store writes a small blob that is at hand.
func (j *job) store(ctx context.Context, desc ocispec.Descriptor, body []byte, labels map[string]string) error {
	w, err := j.writer(ctx, desc)
	if errdefs.IsAlreadyExists(err) {
		return j.relabel(ctx, desc, labels)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Truncate(0); err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
		return err
	}
	if err := w.Commit(ctx, desc.Size, desc.Digest, labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return j.relabel(ctx, desc, labels)
}

// relabel adds labels, and where the blob came from, so that a push can mount it,
// to one that may have been there before with fewer.
func (j *job) relabel(ctx context.Context, desc ocispec.Descriptor, labels map[string]string) error {
	info, err := j.stores.Content.Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	all := map[string]string{}
	for k, v := range labels {
		all[k] = v
	}
	source := label.DistributionFrom + j.ref.Host
	all[source] = label.AddSource(info.Labels[source], j.ref.Repository)
	var paths []string
	for k, v := range all {
		if info.Labels[k] != v {
			paths = append(paths, "labels."+k)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	_, err = j.stores.Content.Update(ctx, content.Info{Digest: desc.Digest, Labels: all}, paths...)
	return err
}

// config fetches an image's config and stores it. That of an artifact is only
// stored.
func (j *job) config(ctx context.Context, desc ocispec.Descriptor, at node) (ocispec.Image, error) {
	var img ocispec.Image
	if desc.Size > manifest.MaxSize {
		return img, fmt.Errorf("config %s has %d bytes, at most %d are read: %w", desc.Digest, desc.Size, manifest.MaxSize, errdefs.ErrInvalidArgument)
	}
	body, err := content.ReadBlob(ctx, j.stores.Content, desc, manifest.MaxSize)
	if err != nil {
		if body, err = j.fetchSmall(ctx, desc); err != nil {
			return img, err
		}
	}
	if manifest.IsImageConfig(desc.MediaType) {
		if err := json.Unmarshal(body, &img); err != nil {
			return img, fmt.Errorf("config %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
		}
	}
	if err := j.store(ctx, desc, body, nil); err != nil {
		return img, err
	}
	j.Report.Report(progress.Step{Event: "complete", Name: manifest.Key(desc), Parents: at.parents, Done: desc.Size, Total: desc.Size, Desc: &desc})
	return img, nil
}

func (j *job) fetchSmall(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	var b bytes.Buffer
	if err := j.fetch(ctx, &b, desc, progress.Step{}); err != nil {
		return nil, err
	}
	if got := desc.Digest.Algorithm().FromBytes(b.Bytes()); got != desc.Digest {
		return nil, fmt.Errorf("blob %s: the registry sent bytes with digest %s: %w", desc.Digest, got, errdefs.ErrDataLoss)
	}
	return b.Bytes(), nil
}

// writer opens the ingest of a blob, when nobody else is at it.
func (j *job) writer(ctx context.Context, desc ocispec.Descriptor) (content.Writer, error) {
	for pause := writerPause; ; pause = min(2*pause, maxWriterPause) {
		w, err := j.stores.Content.Writer(ctx, content.WriterOptions{Ref: manifest.Key(desc), Descriptor: desc})
		if !errdefs.IsUnavailable(err) {
			return w, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// layer brings one layer: from the store, or from the registry through one stream.
func (j *job) layer(ctx context.Context, desc ocispec.Descriptor, p *unpack.Plan, i int, at node) error {
	step := progress.Step{Event: "waiting", Name: manifest.Key(desc), Parents: at.parents, Total: desc.Size, Desc: &desc}
	j.Report.Report(step)
	// The ingest comes first: whoever has a place among the downloads must not wait
	// for a client that writes the same blob.
	w, err := j.writer(ctx, desc)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if w != nil {
		defer w.Close()
	}
	if err := j.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer j.slots.Release(1)
	event := "complete"
	if w == nil {
		event = "already exists"
		err = j.unpackStored(ctx, p, i, step)
	} else {
		err = j.download(ctx, w, desc, p, i, step)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	step.Event, step.Done = event, desc.Size
	j.Report.Report(step)
	labels := map[string]string{}
	if diffID, ok := p.DiffID(i); ok {
		labels[label.Uncompressed] = diffID.String()
	}
	return j.relabel(ctx, desc, labels)
}

func (j *job) unpackStored(ctx context.Context, p *unpack.Plan, i int, step progress.Step) error {
	if p.Streams(i) {
		step.Event = "extracting"
		j.Report.Report(step)
	}
	return p.Stored(ctx, i)
}

// download fetches into the store and unpacks on the way. What an earlier pull
// left is kept: then the layer is unpacked from the store afterwards.
func (j *job) download(ctx context.Context, w content.Writer, desc ocispec.Descriptor, p *unpack.Plan, i int, step progress.Step) error {
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
	streamed := st.Offset == 0 && p.Streams(i)
	sink := io.Writer(w)
	var unpacking *unpacker
	if streamed {
		unpacking = startUnpack(ctx, p, i)
		sink = io.MultiWriter(w, unpacking)
	}
	step.Done = st.Offset
	err = j.fetch(ctx, sink, desc, step)
	if streamed {
		err = errors.Join(err, unpacking.finish(err))
	}
	if err != nil {
		return err
	}
	if err := j.commit(ctx, w, desc); err != nil {
		return err
	}
	if streamed {
		return nil
	}
	return j.unpackStored(ctx, p, i, step)
}

// commit names the blob. Bytes with another digest are dropped: nobody could ever
// go on with them.
func (j *job) commit(ctx context.Context, w content.Writer, desc ocispec.Descriptor) error {
	err := w.Commit(ctx, desc.Size, desc.Digest, nil)
	switch {
	case err == nil || errdefs.IsAlreadyExists(err):
		return nil
	case errdefs.IsFailedPrecondition(err):
		w.Close()
		return errors.Join(fmt.Errorf("the registry sent other bytes: %v: %w", err, errdefs.ErrDataLoss),
			j.stores.Content.Abort(context.WithoutCancel(ctx), manifest.Key(desc)))
	}
	return err
}

// fetch copies a blob from step.Done on, taking up a connection that breaks off.
func (j *job) fetch(ctx context.Context, sink io.Writer, desc ocispec.Descriptor, step progress.Step) error {
	pause := fetchPause
	for try := 0; ; try++ {
		n, err := j.fetchOnce(ctx, sink, desc, step)
		if step.Done += n; n > 0 {
			try, pause = 0, fetchPause
		}
		if err == nil || !resumable(ctx, err) || ctx.Err() != nil || try >= fetchTries {
			return err
		}
		step.Event = "retrying"
		j.Report.Report(step)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// errSink marks errors of what the bytes go to, after which nothing is retried.
type errSink struct{ error }

func (e errSink) Unwrap() error { return e.error }

type sinkWriter struct{ io.Writer }

func (s sinkWriter) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		err = errSink{err}
	}
	return n, err
}

// fetchOnce reads at most what the descriptor promises, and then makes sure that
// no more was sent.
func (j *job) fetchOnce(ctx context.Context, sink io.Writer, desc ocispec.Descriptor, step progress.Step) (int64, error) {
	left := desc.Size - step.Done
	if left == 0 && desc.Size > 0 {
		return 0, nil
	}
	body, err := j.Client.Blob(ctx, j.ref, desc, step.Done)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if step.Event = "downloading"; step.Name == "" {
		return copyExactly(sink, body, left)
	}
	j.Report.Report(step)
	return copyExactly(sink, j.Report.NewReader(body, step), left)
}

func copyExactly(sink io.Writer, body io.Reader, want int64) (int64, error) {
	n, err := io.CopyBuffer(sinkWriter{sink}, io.LimitReader(body, want), make([]byte, min(copyBuffer, want+1)))
	if err != nil {
		return n, err
	}
	if n < want {
		return n, fmt.Errorf("the registry sent %d of %d bytes: %w", n, want, io.ErrUnexpectedEOF)
	}
	if extra, _ := io.ReadFull(body, make([]byte, 1)); extra > 0 {
		return n, fmt.Errorf("the registry sends more than %d bytes: %w", want, errdefs.ErrDataLoss)
	}
	return n, nil
}

// unpacker unpacks what is written to it, in a goroutine of its own.
type unpacker struct {
	pipe *io.PipeWriter
	done chan error
}

func startUnpack(ctx context.Context, p *unpack.Plan, i int) *unpacker {
	r, w := io.Pipe()
	u := &unpacker{pipe: w, done: make(chan error, 1)}
	go func() {
		err := p.Layer(ctx, i, r)
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
	if err != nil && (errors.Is(unpackErr, err) || errors.Is(err, unpackErr)) {
		return nil // the same trouble, told once
	}
	return unpackErr
}
