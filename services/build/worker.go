package build

import (
	"context"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/resolver"
	bkworker "github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
)

const (
	hour = time.Hour
	// defaultCache bounds the cache where the config doesn't, in bytes.
	defaultCache = 20 << 30
	// exporterMoby is how clients of the Docker API call the daemon's image store.
	exporterMoby = "moby"
	// imageScheme begins the identifiers of images in a build's graph.
	imageScheme = "docker-image://"
	// Dangling is the repository of images that have no name, as the Engine of Docker
	// has it with containerd's store.
	Dangling = "moby-dangling"
)

// worker is BuildKit's own, which also knows the exporter "moby".
type worker struct{ *base.Worker }

// Exporter finds an exporter.
func (w *worker) Exporter(name string, sessions *session.Manager) (exporter.Exporter, error) {
	if name != exporterMoby {
		return w.Worker.Exporter(name, sessions)
	}
	inner, err := w.Worker.Exporter(client.ExporterImage, sessions)
	return mobyExporter{inner}, err
}

// ResolveOp prefers images that are here to asking their registry, unless the build
// was told to pull: so do builds with the Engine of Docker.
func (w *worker) ResolveOp(v solver.Vertex, bridge frontend.FrontendLLBBridge, sessions *session.Manager, proxy bkworker.ProxyOpt) (solver.Op, error) {
	if op, ok := v.Sys().(*pb.Op); ok {
		preferLocal(op.GetSource())
	}
	return w.Worker.ResolveOp(v, bridge, sessions, proxy)
}

func preferLocal(op *pb.SourceOp) {
	if op == nil || !strings.HasPrefix(op.Identifier, imageScheme) {
		return
	}
	if mode := op.Attrs[pb.AttrImageResolveMode]; mode != "" && mode != pb.AttrImageResolveModeDefault {
		return
	}
	if op.Attrs == nil {
		op.Attrs = map[string]string{}
	}
	op.Attrs[pb.AttrImageResolveMode] = pb.AttrImageResolveModePreferLocal
}

// ResolveSourceMetadata prefers images that are here, too.
func (w *worker) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt, sessions *session.Manager, job solver.JobContext) (*sourceresolver.MetaResponse, error) {
	if opt.ImageOpt != nil && (opt.ImageOpt.ResolveMode == "" || opt.ImageOpt.ResolveMode == resolver.ResolveModeDefault.String()) {
		own := *opt.ImageOpt
		own.ResolveMode = resolver.ResolveModePreferLocal.String()
		opt.ImageOpt = &own
	}
	return w.Worker.ResolveSourceMetadata(ctx, op, opt, sessions, job)
}

// mobyExporter puts images into the store as `docker build` wants them: unpacked,
// under whole names, and without a name too.
type mobyExporter struct{ exporter.Exporter }

// Resolve adds what the Docker API implies.
func (e mobyExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	set := map[string]string{string(exptypes.OptKeyUnpack): "true", string(exptypes.OptKeyStore): "true",
		string(exptypes.OptKeyDanglingPrefix): Dangling, string(exptypes.OptKeyDanglingEmptyOnly): "true"}
	for k, v := range attrs {
		set[k] = v
	}
	var names []string
	for _, name := range strings.Split(set[string(exptypes.OptKeyName)], ",") {
		if name == "" {
			continue
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, invalid("invalid name %q: %v", name, err)
		}
		names = append(names, reference.TagNameOnly(named).String())
	}
	set[string(exptypes.OptKeyName)] = strings.Join(names, ",")
	return e.Exporter.Resolve(ctx, id, set)
}
