package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/moby/moby/api/types/registry"

	"github.com/orlop/orlop/services/build"
)

var buildRoutes = []route{
	{method: "POST", path: "/build", handle: buildImage}, {method: "POST", path: "/build/cancel", handle: cancelBuild},
	{method: "POST", path: "/build/prune", handle: pruneBuilds},
	{method: "POST", path: "/session", handle: buildSession}, {method: "POST", path: "/grpc", handle: buildCalls},
}

// errNoBuilder says that the config leaves builds out.
var errNoBuilder = &apiError{"this daemon builds no images: its builder is off", http.StatusNotImplemented}

// builds are those of the classic API that are under way, by the name that the
// client gave them.
type builds struct {
	mu      sync.Mutex
	cancels map[string]context.CancelFunc
}

func (b *builds) add(id string, cancel context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancels == nil {
		b.cancels = map[string]context.CancelFunc{}
	}
	b.cancels[id] = cancel
}

func (b *builds) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.cancels, id)
}

// cancel ends a build, if it is there.
func (b *builds) cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if fn := b.cancels[id]; fn != nil {
		fn()
	}
}

// buildImage is docker build without a client of BuildKit's own.
func buildImage(s *Server, c *call) error {
	if s.builder == nil {
		return errNoBuilder
	}
	r, err := c.buildRequest()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	if id := c.query("buildid"); id != "" {
		s.builds.add(id, cancel)
		defer s.builds.remove(id)
	}
	// The answer begins while the body is still being read.
	control := http.NewResponseController(c.w)
	if err := control.EnableFullDuplex(); err != nil {
		return err
	}
	c.w.Header().Set("Connection", "close") // the body may not have been read to its end
	body := &buildBody{from: c.r.Body}
	defer body.end(control)
	out := newJSONStream(c)
	view := newBuildView(out, r.Trace, r.Quiet)
	got, err := s.builder.Classic(ctx, r, body, view)
	if err != nil {
		return view.fail(err)
	}
	return view.done(got)
}

// maxAuths bounds the header with the credentials of all registries, in bytes.
const maxAuths = 512 << 10

// buildRequest reads the query.
func (c *call) buildRequest() (build.Request, error) {
	q := c.r.URL.Query()
	r := build.Request{Tags: q["t"], Remote: c.query("remote"), Session: c.query("session"), Dockerfile: c.query("dockerfile"), Target: c.query("target"),
		Platform: c.query("platform"), Network: c.query("networkmode"), ExtraHosts: q["extrahosts"], NoCache: c.flag("nocache"), Pull: c.flag("pull"),
		Quiet: c.flag("q"), Cgroup: c.query("cgroupparent"), Trace: c.query("version") == "2"}
	if r.Trace && r.Session == "" {
		return r, badRequest("a build of version 2 needs a session")
	}
	if c.flag("squash") {
		return r, notThere("squashing images is not available: build in several stages")
	}
	for key, into := range map[string]any{"buildargs": &r.Args, "labels": &r.Labels, "cachefrom": &r.CacheFrom, "outputs": &r.Outputs} {
		text := c.query(key)
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			return r, badRequest("error reading %s: %v", key, err)
		}
	}
	if text := c.query("shmsize"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return r, badRequest("invalid shmsize: %q is no number", text)
		}
		r.ShmSize = n
	}
	var err error
	if r.Ulimits, err = ulimits(c.query("ulimits")); err != nil {
		return r, err
	}
	r.Auths, err = auths(c.r.Header.Get("X-Registry-Config"))
	return r, err
}

func ulimits(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var list []struct {
		Name       string
		Hard, Soft int64
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, badRequest("error reading ulimits: %v", err)
	}
	var out []string
	for _, u := range list {
		out = append(out, u.Name+"="+strconv.FormatInt(u.Soft, 10)+":"+strconv.FormatInt(u.Hard, 10))
	}
	return out, nil
}

// auths reads the credentials of all registries: base64 of JSON. One that can't be
// read counts as none, as in Docker.
func auths(header string) (map[string]build.Auth, error) {
	if header == "" || len(header) > maxAuths {
		return nil, nil
	}
	data, err := base64.URLEncoding.DecodeString(header)
	if err != nil {
		data, err = base64.RawURLEncoding.DecodeString(header)
	}
	var given map[string]registry.AuthConfig
	if err != nil || json.Unmarshal(data, &given) != nil {
		return nil, nil
	}
	out := map[string]build.Auth{}
	for host, a := range given {
		if a.IdentityToken != "" {
			out[host] = build.Auth{Secret: a.IdentityToken}
			continue
		}
		out[host] = build.Auth{User: a.Username, Secret: a.Password}
	}
	return out, nil
}

// cancelBuild ends a build; one that isn't there is no error.
func cancelBuild(s *Server, c *call) error {
	id := c.query("id")
	if id == "" {
		return badRequest("build ID not provided")
	}
	s.builds.cancel(id)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// buildSession takes a connection over, by which the client offers its files.
func buildSession(s *Server, c *call) error {
	if s.builder == nil {
		return errNoBuilder
	}
	conn, err := c.upgrade()
	if err != nil {
		return err
	}
	return ignore(s.builder.Session(c.r.Context(), conn, c.r.Header))
}

// buildCalls takes a connection over, on which the client speaks gRPC with BuildKit.
func buildCalls(s *Server, c *call) error {
	if s.builder == nil {
		return errNoBuilder
	}
	conn, err := c.upgrade()
	if err != nil {
		return err
	}
	return ignore(s.builder.Serve(c.r.Context(), conn))
}

// upgrade turns the connection into one of HTTP/2 without TLS (h2c).
func (c *call) upgrade() (net.Conn, error) {
	switch c.r.Header.Get("Upgrade") {
	case "h2c":
	case "":
		return nil, badRequest("no upgrade proto in request: this connection must be upgraded to h2c")
	default:
		return nil, badRequest("protocol %s not supported: this connection must be upgraded to h2c", c.r.Header.Get("Upgrade"))
	}
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, err
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &readConn{conn, rest(buffered.Reader, conn)}, nil
}

// readConn is a connection some of which was read already.
type readConn struct {
	net.Conn
	r io.Reader
}

// Read reads what was read first.
func (c *readConn) Read(p []byte) (int, error) { return c.r.Read(p) }
