package observe_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/namespaces"
	bus "github.com/orlop/orlop/services/events"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/observe"
)

// call makes one call of a daemon's door that has the watchers, and ends the door.
func call(t *testing.T, opts grpc.Socket) {
	t.Helper()
	opts.Path = filepath.Join(t.TempDir(), "d.sock")
	door, err := grpc.Listen(opts, []grpc.Service{&grpc.Version{Release: "2.9.9"}})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	conn, err := ggrpc.NewClient("unix://"+opts.Path, ggrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := version.NewVersionClient(conn).Version(t.Context(), &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
}

// serve returns how to get a path of the server.
func serve(t *testing.T, h http.Handler) func(path string) (int, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := observe.Serve(l, h)
	t.Cleanup(func() { s.Close(context.Background()) })
	return func(path string) (int, string) {
		resp, err := http.Get("http://" + s.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") && !strings.Contains(text, line+" ") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestCalls(t *testing.T) {
	m := observe.New(observe.Config{Histogram: true})
	call(t, grpc.Socket{Watchers: []handler{m}})
	get := serve(t, observe.Debug(m))
	_, text := get(observe.MetricsPath)
	labels := `grpc_method="Version",grpc_service="containerd.services.version.v1.Version",grpc_type="unary"`
	want(t, text, `grpc_server_started_total{`+labels+`} 1`, `grpc_server_handled_total{grpc_code="OK",`+labels+`} 1`,
		`grpc_server_handling_seconds_count{`+labels+`} 1`, "go_goroutines", "go_gc_duration_seconds_count", "process_open_fds")
	if code, text := get("/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(text, "goroutine profile: total") {
		t.Errorf("profile: %d %.100s", code, text)
	}
}

// The figures' own door shows nothing else.
func TestFiguresOnly(t *testing.T) {
	get := serve(t, observe.Figures(observe.New(observe.Config{})))
	if code, text := get(observe.MetricsPath); code != 200 || strings.Contains(text, "handling_seconds") {
		t.Errorf("%d, with a histogram that wasn't asked for: %.200s", code, text)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/"} {
		if code, _ := get(path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

type handler = stats.Handler

func TestEvents(t *testing.T) {
	m := observe.New(observe.Config{})
	exchange := &bus.Exchange{}
	ctx, cancel := context.WithCancel(namespaces.With(t.Context(), "demo"))
	defer cancel()
	go m.CountEvents(ctx, exchange)
	get := serve(t, observe.Figures(m))
	for { // until the counting has begun
		for _, topic := range []string{"/tasks/start", "/made/up"} {
			if err := exchange.Publish(ctx, topic, &events.TaskStart{ContainerID: "box"}); err != nil {
				t.Fatal(err)
			}
		}
		_, text := get(observe.MetricsPath)
		if strings.Contains(text, `orlop_events_total{topic="/tasks/start"}`) && strings.Contains(text, `orlop_events_total{topic="other"}`) {
			if strings.Contains(text, "made") {
				t.Errorf("a client makes up labels:\n%s", text)
			}
			return
		}
	}
}

func TestPulls(t *testing.T) {
	m := observe.New(observe.Config{})
	m.Pulled(2*time.Second, nil)
	m.Pulled(time.Second, errdefs.ErrNotFound)
	m.Pulled(time.Second, context.Canceled)
	_, text := serve(t, observe.Figures(m))(observe.MetricsPath)
	want(t, text, `orlop_pull_seconds_sum{result="ok"} 2`, `orlop_pull_seconds_count{result="failed"} 1`, `orlop_pull_seconds_count{result="canceled"} 1`)
}

func TestTasks(t *testing.T) {
	ask := func(v proto.Message) func(context.Context) (typeurl.Any, error) {
		return func(context.Context) (typeurl.Any, error) { return typeurl.MarshalAny(v) }
	}
	m := observe.New(observe.Config{})
	err := m.Register(observe.NewTasks(func(context.Context) ([]observe.Task, error) {
		return []observe.Task{
			{Namespace: "a", ID: "new", Stats: ask(&v2.Metrics{
				CPU: &v2.CPUStat{UsageUsec: 1500}, Memory: &v2.MemoryStat{Usage: 4096, UsageLimit: 8192},
				MemoryEvents: &v2.MemoryEvents{OomKill: 2}, Pids: &v2.PidsStat{Current: 3, Limit: 1<<64 - 1}})},
			{Namespace: "b", ID: "old", Stats: ask(&v1.Metrics{
				CPU:    &v1.CPUStat{Usage: &v1.CPUUsage{Total: 1500_000}},
				Memory: &v1.MemoryStat{Usage: &v1.MemoryEntry{Usage: 4096, Limit: 9223372036854771712}}})},
			{Namespace: "b", ID: "gone", Stats: func(context.Context) (typeurl.Any, error) { return nil, errdefs.ErrNotFound }},
		}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	_, text := serve(t, observe.Figures(m))(observe.MetricsPath)
	want(t, text, `orlop_tasks{namespace="a"} 1`, `orlop_tasks{namespace="b"} 2`,
		`container_cpu_usage_usec_microseconds{container_id="new",namespace="a"} 1500`, `container_cpu_usage_usec_microseconds{container_id="old",namespace="b"} 1500`,
		`container_memory_usage_bytes{container_id="new",namespace="a"} 4096`, `container_memory_usage_limit_bytes{container_id="new",namespace="a"} 8192`,
		`container_pids_current{container_id="new",namespace="a"} 3`, `container_memory_oom_kill_total{container_id="new",namespace="a"} 2`)
	for _, no := range []string{`limit_bytes{container_id="old"`, `pids_limit{`, `"gone"`, `pids_current{container_id="old"`} {
		if strings.Contains(text, no) {
			t.Errorf("%s is there, but isn't known:\n%s", no, text)
		}
	}
}

// sink is an OpenTelemetry collector.
type sink struct {
	collector.UnimplementedTraceServiceServer
	got chan *collector.ExportTraceServiceRequest
}

func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.got <- r
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestTraces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{got: make(chan *collector.ExportTraceServiceRequest, 8)}
	server := ggrpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go server.Serve(l)
	defer server.Stop()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_SERVICE_NAME", "my-daemon")
	cfg := observe.TraceConfig{}
	if !cfg.Wanted() {
		t.Fatal("the environment alone turns nothing on")
	}
	tracing, err := observe.OpenTracing(t.Context(), cfg, "2.9.9")
	if err != nil {
		t.Fatal(err)
	}
	call(t, grpc.Socket{Watchers: []handler{tracing.Handler()}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tracing.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r := <-s.got
	text := r.String()
	for _, w := range []string{"containerd.services.version.v1.Version/Version", "my-daemon", "2.9.9"} {
		if !strings.Contains(text, w) {
			t.Errorf("no %s in %s", w, text)
		}
	}
}

func TestTracesAreOff(t *testing.T) {
	for _, k := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(k, "")
	}
	if (&observe.TraceConfig{}).Wanted() {
		t.Error("traces are on though nothing says where to")
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if (&observe.TraceConfig{Endpoint: "x:1"}).Wanted() {
		t.Error("traces are on though OTEL_SDK_DISABLED says no")
	}
	if err := (&observe.TraceConfig{Protocol: "http/protobuf"}).Validate(); err == nil {
		t.Error("a protocol that isn't spoken is no mistake")
	}
}
