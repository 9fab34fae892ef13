package observe

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"google.golang.org/grpc/stats"

	"github.com/containerd/errdefs"
)

// TraceConfig says where traces go. What it leaves open the standard variables
// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
// OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and the like decide.
type TraceConfig struct {
	// Endpoint is the collector's host and port, for OTLP over gRPC.
	Endpoint string `toml:"endpoint"`
	// Protocol of the export: grpc.
	Protocol string `toml:"protocol"`
	// Insecure talks to the collector without TLS.
	Insecure bool `toml:"insecure"`
}

// Validate checks the protocol.
func (c *TraceConfig) Validate() error {
	if c.Protocol != "" && c.Protocol != "grpc" {
		return fmt.Errorf("protocol: %q can't be spoken, only grpc", c.Protocol)
	}
	return nil
}

// Wanted reports whether anything says where traces go.
func (c *TraceConfig) Wanted() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return c.Endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Tracing sends a span for every call that clients make.
type Tracing struct{ provider *trace.TracerProvider }

// OpenTracing begins to trace. A collector that isn't there costs no call: spans
// wait in a bounded queue and are dropped when it is full.
func OpenTracing(ctx context.Context, cfg TraceConfig, release string) (*Tracing, error) {
	if p := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "grpc" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q, only grpc can be spoken: %w", p, errdefs.ErrNotImplemented)
	}
	var opts []otlptracegrpc.Option
	if cfg.Endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpoint(cfg.Endpoint))
	}
	if cfg.Insecure {
		opts = append(opts, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	res, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("orlopd"), semconv.ServiceVersion(release)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return &Tracing{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(res))}, nil
}

// Handler traces the calls of a gRPC server.
func (t *Tracing) Handler() stats.Handler {
	return otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}))
}

// Close sends what waits.
func (t *Tracing) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }
