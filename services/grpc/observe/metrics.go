// Package observe lets people look into a running daemon: figures for Prometheus,
// profiles for pprof, traces for OpenTelemetry.
//
// Figures are kept as they happen, in memory, and cost nothing else until they
// are asked for; those of tasks are asked of their shims then. Everything is safe
// for concurrent use and forgotten at the end.
package observe

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/core/event"
)

// Config says what is measured.
type Config struct {
	// Histogram also keeps how long each gRPC method takes, in buckets.
	Histogram bool `toml:"grpc_histogram"`
}

// Metrics counts what the daemon does. It is a [stats.Handler] of gRPC servers;
// names and labels are those of go-grpc-prometheus, which dashboards know.
type Metrics struct {
	registry *prometheus.Registry
	started  *prometheus.CounterVec
	handled  *prometheus.CounterVec
	took     *prometheus.HistogramVec // nil: not kept
	events   *prometheus.CounterVec
	pulls    *prometheus.HistogramVec
}

// buckets are seconds: a list takes less than a millisecond, a pull minutes.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300}

// pullBuckets are seconds.
var pullBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// New makes the figures of one daemon.
func New(cfg Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_server_started_total",
			Help: "Calls begun."}, []string{"grpc_type", "grpc_service", "grpc_method"}),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_server_handled_total",
			Help: "Calls ended, by their code."}, []string{"grpc_type", "grpc_service", "grpc_method", "grpc_code"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orlop_events_total",
			Help: "What happened, by topic."}, []string{"topic"}),
		pulls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "orlop_pull_seconds",
			Help: "How long the daemon's pulls took, by their end.", Buckets: pullBuckets}, []string{"result"}),
	}
	m.registry.MustRegister(m.started, m.handled, m.events, m.pulls,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.Histogram {
		m.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grpc_server_handling_seconds",
			Help: "How long calls took.", Buckets: buckets}, []string{"grpc_type", "grpc_service", "grpc_method"})
		m.registry.MustRegister(m.took)
	}
	return m
}

// Register adds figures that are collected when they are asked for.
func (m *Metrics) Register(c prometheus.Collector) error { return m.registry.Register(c) }

// scrapes bounds how many clients are served at once.
const scrapes = 4

// Handler answers with all figures in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, Timeout: statWait + time.Second})
}

// Pulled counts a pull that ended.
func (m *Metrics) Pulled(took time.Duration, err error) {
	result := "ok"
	switch {
	case errdefs.IsCanceled(err), errors.Is(err, context.Canceled):
		result = "canceled"
	case err != nil:
		result = "failed"
	}
	m.pulls.WithLabelValues(result).Observe(took.Seconds())
}

type callKey struct{}

// call is what is known of a gRPC call when it begins.
type call struct {
	service, method string
	kind            string
}

// TagRPC remembers the method. Unknown ones never come here: the server refuses
// them first, so the labels are bounded.
func (m *Metrics) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	service, method, _ := strings.Cut(strings.TrimPrefix(info.FullMethodName, "/"), "/")
	return context.WithValue(ctx, callKey{}, &call{service: service, method: method})
}

// HandleRPC counts.
func (m *Metrics) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		c.kind = kindOf(s)
		m.started.WithLabelValues(c.kind, c.service, c.method).Inc()
	case *stats.End:
		m.handled.WithLabelValues(c.kind, c.service, c.method, status.Code(s.Error).String()).Inc()
		if m.took != nil {
			m.took.WithLabelValues(c.kind, c.service, c.method).Observe(s.EndTime.Sub(s.BeginTime).Seconds())
		}
	}
}

func kindOf(b *stats.Begin) string {
	switch {
	case b.IsClientStream && b.IsServerStream:
		return "bidi_stream"
	case b.IsClientStream:
		return "client_stream"
	case b.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

// TagConn and HandleConn have nothing to do: connections aren't counted.
func (m *Metrics) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (m *Metrics) HandleConn(context.Context, stats.ConnStats) {}

// topics are those that are counted by name; clients may publish any other.
var topics = map[string]bool{
	"/containers/create": true, "/containers/update": true, "/containers/delete": true,
	"/content/create": true, "/content/delete": true,
	"/images/create": true, "/images/update": true, "/images/delete": true,
	"/namespaces/create": true, "/namespaces/update": true, "/namespaces/delete": true,
	"/snapshot/prepare": true, "/snapshot/commit": true, "/snapshot/remove": true,
	"/tasks/create": true, "/tasks/start": true, "/tasks/exit": true, "/tasks/delete": true, "/tasks/oom": true,
	"/tasks/exec-added": true, "/tasks/exec-started": true, "/tasks/paused": true, "/tasks/resumed": true, "/tasks/checkpointed": true,
}

// CountEvents counts what is delivered until ctx ends. A client's own pull shows
// as /images/create and its blobs as /content/create.
func (m *Metrics) CountEvents(ctx context.Context, bus event.Subscriber) {
	for ctx.Err() == nil {
		events, _ := bus.Subscribe(ctx)
		for env := range events { // ends also when counting was too slow: begin again
			topic := env.Topic
			if !topics[topic] {
				topic = "other"
			}
			m.events.WithLabelValues(topic).Inc()
		}
	}
}
