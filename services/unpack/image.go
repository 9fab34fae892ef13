package unpack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/manifest"
)

// Image unpacks an image that is in the store whole, if it is for one of the
// targets' platforms.
func (u *Unpacker) Image(ctx context.Context, targets []Target, m manifest.Image, report progress.Func) error {
	if len(targets) == 0 || !manifest.IsImageConfig(m.Config.MediaType) {
		return nil
	}
	body, err := content.ReadBlob(ctx, u.stores.Content, m.Config, manifest.MaxSize)
	if err != nil {
		return err
	}
	var cfg ocispec.Image
	if err := json.Unmarshal(body, &cfg); err != nil {
		return fmt.Errorf("config %s: %w: %w", m.Config.Digest, err, errdefs.ErrInvalidArgument)
	}
	p, err := u.Plan(ctx, targets, Image{Config: cfg, ConfigAt: m.Config, Layers: m.Layers})
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2)) // the work is the processor's
	for i, l := range m.Layers {
		g.Go(func() error { return p.reportStored(gctx, i, l, report) })
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, p.Drop(ctx))
	}
	return p.Finish(ctx)
}

func (p *Plan) reportStored(ctx context.Context, i int, l ocispec.Descriptor, report progress.Func) error {
	if !p.Streams(i) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	step := progress.Step{Event: "extracting", Name: manifest.Key(l), Total: l.Size, Desc: &l}
	report.Report(step)
	if err := p.Stored(ctx, i); err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	step.Event, step.Done = "extracted", l.Size
	report.Report(step)
	return nil
}
