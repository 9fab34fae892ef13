// Package observe counts and logs what a registry does.
//
// It wraps the registry's handler and adds nothing to what is sent: files still go
// by sendfile(2). Labels are bounded: routes and classes of status, never names.
package observe

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/prometheus/client_golang/prometheus"

	core "github.com/orlop/orlop/core/registry"
	"github.com/orlop/orlop/services/registry"
)

// Observer watches one registry. It is a [prometheus.Collector].
type Observer struct {
	catalog  core.Catalog
	log      bool
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	uploads  prometheus.Gauge

	mu    sync.Mutex // guards what is below
	usage core.Usage
	asked time.Time
}

// New makes an observer; with log, each request becomes a line of the log.
func New(catalog core.Catalog, log bool) *Observer {
	return &Observer{catalog: catalog, log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orlop_registry_requests_total", Help: "Requests by what was asked for."}, []string{"route", "method", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "orlop_registry_request_seconds", Help: "How long requests took.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60}}, []string{"route"}),
		bytes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orlop_registry_bytes_total", Help: "Bytes of bodies."}, []string{"direction"}),
		uploads: prometheus.NewGauge(prometheus.GaugeOpts{Name: "orlop_registry_uploads_in_flight", Help: "Uploads that bytes are coming in for."}),
	}
}

// Figures that are counted when they are asked for, and at most so often.
var (
	repositories = prometheus.NewDesc("orlop_registry_repositories", "Repositories.", nil, nil)
	manifests    = prometheus.NewDesc("orlop_registry_manifests", "Manifests, each counted once.", nil, nil)
	blobs        = prometheus.NewDesc("orlop_registry_blobs", "Blobs, each counted once.", nil, nil)
	stored       = prometheus.NewDesc("orlop_registry_stored_bytes", "Bytes of all of them.", nil, nil)
)

const usageEvery = time.Minute

// Describe is [prometheus.Collector]'s.
func (o *Observer) Describe(out chan<- *prometheus.Desc) {
	for _, c := range o.parts() {
		c.Describe(out)
	}
	for _, d := range []*prometheus.Desc{repositories, manifests, blobs, stored} {
		out <- d
	}
}

func (o *Observer) parts() []prometheus.Collector {
	return []prometheus.Collector{o.requests, o.took, o.bytes, o.uploads}
}

// Collect is [prometheus.Collector]'s.
func (o *Observer) Collect(out chan<- prometheus.Metric) {
	for _, c := range o.parts() {
		c.Collect(out)
	}
	u, err := o.used()
	if err != nil {
		out <- prometheus.NewInvalidMetric(repositories, err)
		return
	}
	for d, v := range map[*prometheus.Desc]float64{repositories: float64(u.Repositories), manifests: float64(u.Manifests), blobs: float64(u.Blobs), stored: float64(u.Bytes)} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
}

func (o *Observer) used() (core.Usage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.asked) < usageEvery {
		return o.usage, nil
	}
	u, err := o.catalog.Usage(context.Background(), func(string) bool { return true })
	if err == nil {
		o.usage, o.asked = u, time.Now()
	}
	return u, err
}

// Wrap watches a handler.
func (o *Observer) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		var rec registry.Record
		a := &answer{ResponseWriter: w, status: http.StatusOK}
		in := &body{ReadCloser: r.Body}
		r.Body = in
		if r.Method == http.MethodPatch || r.Method == http.MethodPut || r.Method == http.MethodPost {
			o.uploads.Inc()
			defer o.uploads.Dec()
		}
		next.ServeHTTP(a, r.WithContext(registry.WithRecord(r.Context(), &rec)))
		o.note(r, rec, a, in, time.Since(began))
	})
}

// methods are those that count by name; any client may send any other.
var methods = map[string]bool{"GET": true, "HEAD": true, "PUT": true, "POST": true, "PATCH": true, "DELETE": true}

func (o *Observer) note(r *http.Request, rec registry.Record, a *answer, in *body, took time.Duration) {
	method, route := r.Method, rec.Route
	if !methods[method] {
		method = "other"
	}
	if route == "" {
		route = "other"
	}
	o.requests.WithLabelValues(route, method, strconv.Itoa(a.status)).Inc()
	o.took.WithLabelValues(route).Observe(took.Seconds())
	o.bytes.WithLabelValues("in").Add(float64(in.n))
	o.bytes.WithLabelValues("out").Add(float64(a.n))
	if !o.log {
		return
	}
	log.L.WithFields(log.Fields{"method": method, "path": r.URL.Path, "status": a.status, "in": in.n, "out": a.n,
		"ms": took.Milliseconds(), "who": rec.Who, "from": r.RemoteAddr, "agent": r.UserAgent()}).Info("registry: request")
}

// body counts what comes in.
type body struct {
	io.ReadCloser
	n int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// answer counts what goes out.
type answer struct {
	http.ResponseWriter
	status int
	n      int64
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.n += int64(n)
	return n, err
}

// ReadFrom keeps the way open for the kernel to send files.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(a.ResponseWriter, r)
	a.n += n
	return n, err
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
