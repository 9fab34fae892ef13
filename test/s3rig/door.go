package s3rig

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Fault is what the door does to a request instead of passing it on.
type Fault func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// Door passes requests on to the server, unless a fault is set.
type Door struct {
	listener net.Listener
	pass     http.Handler

	mu    sync.Mutex
	fault Fault
	seen  map[string]int // requests by method
}

func open(t testing.TB, server string) *Door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server})
	proxy.Director = nil
	proxy.Rewrite = func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", server
		r.Out.Host = r.In.Host // it is signed
	}
	d := &Door{listener: l, pass: proxy, seen: map[string]int{}}
	srv := &http.Server{Handler: d}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return d
}

// Address is host:port.
func (d *Door) Address() string { return d.listener.Addr().String() }

// ServeHTTP passes a request on.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	fault := d.fault
	d.seen[r.Method]++
	d.mu.Unlock()
	if fault != nil {
		fault(w, r, d.pass)
		return
	}
	d.pass.ServeHTTP(w, r)
}

// Set makes all requests from now on meet a fault; nil is none.
func (d *Door) Set(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// Seen is how many requests of a method came.
func (d *Door) Seen(method string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[method]
}

// Broken answers that the server has failed.
func Broken(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	io.Copy(io.Discard, r.Body)
	http.Error(w, "broken", http.StatusInternalServerError)
}

// Silent doesn't answer at all.
func Silent(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Every lets a fault befall each nth request of a method.
func Every(n int, method string, f Fault) Fault {
	var mu sync.Mutex
	count := 0
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		hit := false
		if r.Method == method {
			mu.Lock()
			count++
			hit = count%n == 0
			mu.Unlock()
		}
		if hit {
			f(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	}
}

// Cut ends the connection after so many bytes of an answer's body.
func Cut(after int) Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(&cutter{ResponseWriter: w, left: after}, r)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
}

// Write passes on what is allowed.
func (c *cutter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
