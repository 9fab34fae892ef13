package unpack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/snapshotters/layer"
)

// stepwise unpacks each layer onto its parent.
func (p *Plan) stepwise(ctx context.Context) error {
	for i := p.have; i < len(p.chains); i++ {
		if err := p.step(ctx, i); err != nil {
			return fmt.Errorf("layer %s: %w", p.img.Layers[i].Digest, err)
		}
	}
	return nil
}

func (p *Plan) step(ctx context.Context, i int) error {
	chain := p.chains[i]
	key := "extract-" + rand.Text() + " " + chain
	ms, err := p.steps.Prepare(ctx, key, p.parent(i), map[string]string{label.SnapshotRef: chain})
	if errdefs.IsAlreadyExists(err) {
		if _, err := p.steps.Stat(ctx, chain); err == nil {
			return nil // a remote snapshotter has it without us
		}
	}
	if err != nil {
		return err
	}
	applied, err := p.u.stores.Applier.Apply(ctx, p.img.Layers[i], ms, diff.ApplyOptions{SyncFS: true})
	if want := p.img.Config.RootFS.DiffIDs[i]; err == nil && applied.Digest != want {
		err = fmt.Errorf("the uncompressed layer is %s, the config says %s: %w", applied.Digest, want, errdefs.ErrDataLoss)
	}
	if err == nil {
		err = p.steps.Commit(ctx, chain, key, map[string]string{label.SnapshotRef: chain})
	}
	if err == nil {
		return nil
	}
	err = dropped(err, p.steps.Remove(context.WithoutCancel(ctx), key))
	if errdefs.IsAlreadyExists(err) {
		return nil // somebody else was quicker
	}
	return err
}

// dropped adds what went wrong when the rest of a failure was removed.
func dropped(err, also error) error {
	if also == nil || errdefs.IsNotFound(also) {
		return err
	}
	return errors.Join(err, also)
}

// bound ends an uncompressed layer that is larger than allowed, and one whose
// context has ended: a single file may take long.
func (u *Unpacker) bound(ctx context.Context, r io.Reader) io.Reader {
	return &bounded{ctx: ctx, r: r, most: u.cfg.MaxLayerBytes}
}

type bounded struct {
	ctx        context.Context
	r          io.Reader
	read, most int64 // most is 0 for no bound
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.read += int64(n); b.most > 0 && b.read > b.most {
		return 0, fmt.Errorf("the layer unpacks to more than %d bytes (max_layer_bytes): %w: %w", b.most, layer.ErrLimit, errdefs.ErrResourceExhausted)
	}
	return n, err
}
