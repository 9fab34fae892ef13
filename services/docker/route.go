package docker

import (
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
)

// Versions of the API that are spoken.
const (
	MaxVersion = "1.55"
	MinVersion = "1.24"
)

// version is a version of the API; 1.44 is 44.
type version int

// newest is what a client that names no version gets.
var newest = mustVersion(MaxVersion)

func mustVersion(text string) version {
	v, ok := parseVersion(text)
	if !ok {
		panic("version " + text)
	}
	return v
}

func parseVersion(text string) (version, bool) {
	minor, ok := strings.CutPrefix(text, "1.")
	n, err := strconv.Atoi(minor)
	return version(n), ok && err == nil && n >= 0
}

// call is one request.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// version is what the client speaks.
	version version
	// vars are the parts of the path that a route names.
	vars map[string]string
}

func (c *call) query(key string) string { return c.r.URL.Query().Get(key) }

// flag reads a query parameter that is true or false, in Docker's loose way.
func (c *call) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number reads a query parameter that is a number, nil if it is missing.
func (c *call) number(key string) (*int, error) {
	text := c.query(key)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, badRequest("invalid %s: %q is no number", key, text)
	}
	return &n, nil
}

// handle answers a request, or returns an error before anything was written.
type handle func(s *Server, c *call) error

// route is a line of the API.
type route struct {
	method  string
	path    string // {name} is a part of the path, {name...} one or more
	handle  handle
	pattern *regexp.Regexp
}

// compile makes the route's pattern.
func (r route) compile() route {
	text := regexp.QuoteMeta(r.path)
	text = regexp.MustCompile(`\\\{([a-z]+)\\\.\\\.\\\.\\\}`).ReplaceAllString(text, `(?P<$1>.+)`)
	text = regexp.MustCompile(`\\\{([a-z]+)\\\}`).ReplaceAllString(text, `(?P<$1>[^/]+)`)
	r.pattern = regexp.MustCompile(`^` + text + `$`)
	return r
}

// match returns the named parts of a path that fits.
func (r route) match(method, path string) (map[string]string, bool) {
	if r.method != method {
		return nil, false
	}
	m := r.pattern.FindStringSubmatch(path)
	if m == nil {
		return nil, false
	}
	vars := map[string]string{}
	for i, name := range r.pattern.SubexpNames() {
		if name != "" {
			vars[name] = m[i]
		}
	}
	return vars, true
}

// versioned is a path that begins with a version.
var versioned = regexp.MustCompile(`^/v([0-9]+\.[0-9]+)(/.*)$`)

// handler finds the route of a request.
func (s *Server) handler() http.Handler {
	var table []route
	for _, r := range routes() {
		table = append(table, r.compile())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r, version: newest}
		defer c.survive()
		s.headers(w)
		if err := s.serve(table, c); err != nil {
			c.fail(err)
		}
	})
}

func (s *Server) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", strconv.FormatBool(s.info.Experimental))
	h.Set("Ostype", "linux")
	h.Set("Server", "Orlop/"+s.info.Version+" (linux)")
}

func (s *Server) serve(table []route, c *call) error {
	if err := fromBrowser(c.r); err != nil {
		return err
	}
	path := c.r.URL.Path
	if m := versioned.FindStringSubmatch(path); m != nil {
		v, ok := parseVersion(m[1])
		if err := checkVersion(m[1], v, ok); err != nil {
			return err
		}
		c.version, path = v, m[2]
	}
	for _, r := range table {
		if vars, ok := r.match(c.r.Method, path); ok {
			c.vars = vars
			return r.handle(s, c)
		}
	}
	return fmt.Errorf("%w", errPage)
}

// errPage says that there is no such route.
var errPage = &apiError{"page not found", http.StatusNotFound}

func checkVersion(text string, v version, ok bool) error {
	switch {
	case !ok || v > newest:
		return badRequest("client version %s is too new. Maximum supported API version is %s", text, MaxVersion)
	case v < mustVersion(MinVersion):
		return badRequest("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", text, MinVersion)
	}
	return nil
}

// survive turns a panic into an error of this request alone.
func (c *call) survive() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	log.L.Errorf("request %s %s: panic: %v\n%s", c.r.Method, c.r.URL.Path, v, debug.Stack())
	c.fail(fmt.Errorf("the daemon has made a mistake: %v: %w", v, errdefs.ErrInternal))
}
