package script

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/orlop/orlop/test/swagger"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestSwagger holds what the Docker API answers against the published descriptions of its
// versions. Requests are those of testdata/swagger.txt, in their order:
//
//	STATUS METHOD PATH[?QUERY] [BODY]
//
// $ID is the first ID of the last answer that had one.
//
// Operations that are not served, or not asked for there, are in testdata/swagger-absent.txt.
func TestSwagger(t *testing.T) {
	c := newChecker(t)
	script, err := os.ReadFile("testdata/swagger.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(script), "\n") {
		if line != "" && line[0] != '#' {
			c.request(fmt.Sprintf("swagger.txt:%d", i+1), line)
		}
	}
	golden(t, "testdata/swagger-absent.txt", c.absent())
}

func golden(t *testing.T, path, have string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("%s is not up to date (go test -run %s -update, if that is meant):\n%s", path, t.Name(), have)
	}
}

// checker makes requests and checks them and their answers.
type checker struct {
	t      *testing.T
	folder string // of the API's module
	specs  map[string]*swagger.Spec
	socket string
	asked  map[string]bool // operations that were answered with success
	files  map[string][]byte
	id     string
}

// newestVersion is the newest version of the API.
const newestVersion = "v1.55"

// newChecker starts a daemon to check. Bodies can be @image, an archive.
func newChecker(t *testing.T) *checker {
	t.Helper()
	r := newRig(t)
	r.writeImage()
	image, err := os.ReadFile(r.path("image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	r.startDaemon()
	c := &checker{t: t, folder: strings.TrimSpace(string(out)), specs: map[string]*swagger.Spec{}, socket: r.path("state", "docker.sock"),
		asked: map[string]bool{}, files: map[string][]byte{"@image": image}}
	t.Cleanup(c.removeAll)
	return c
}

func (c *checker) spec(version string) *swagger.Spec {
	if s := c.specs[version]; s != nil {
		return s
	}
	s, err := swagger.Load(filepath.Join(c.folder, "docs", version+".yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	s.Open = version != newestVersion
	c.specs[version] = s
	return s
}

var versionPrefix = regexp.MustCompile(`^/(v1\.\d+)(/.*)$`)

var anID = regexp.MustCompile(`"(?:Id|ID)":"([^"]+)"`)

// request makes the request of a line.
func (c *checker) request(at, line string) {
	line = strings.ReplaceAll(line, "$ID", c.id)
	status, rest, _ := strings.Cut(line, " ")
	method, rest, _ := strings.Cut(rest, " ")
	target, text, _ := strings.Cut(rest, " ")
	version, bare := newestVersion, target
	if m := versionPrefix.FindStringSubmatch(target); m != nil {
		version, bare = m[1], m[2]
	}
	u, err := url.Parse(bare)
	if err != nil {
		c.t.Fatalf("%s: %v", at, err)
	}
	spec := c.spec(version)
	op := spec.Find(method, u.Path)
	if op == nil {
		c.t.Errorf("%s: %s has no operation %s %s", at, version, method, u.Path)
		return
	}
	body, file := c.files[text], true
	if body == nil {
		body, file = []byte(text), false
	}
	code, contentType, answer := c.send(method, "/"+version+bare, body)
	if fmt.Sprint(code) != status {
		c.t.Errorf("%s: %s: status %d, want %s: %s", at, line, code, status, bytes.TrimSpace(answer))
		return
	}
	if m := anID.FindSubmatch(answer); m != nil {
		c.id = string(m[1])
	}
	if code < 400 {
		c.asked[op.String()] = true
		if !file {
			if err := spec.CheckRequest(op, u.Query(), body); err != nil {
				c.t.Errorf("%s: request %s: %v", at, op, err)
			}
		}
	}
	if code == http.StatusBadRequest && !bytes.Contains(answer, []byte(`"message"`)) {
		c.t.Errorf("%s: %s: an error without a message: %s", at, line, answer)
	}
	if code == http.StatusBadRequest {
		return // not listed everywhere, though any request may be wrong
	}
	if err := spec.CheckAnswer(op, code, contentType, answer); err != nil {
		c.t.Errorf("%s: answer of %s %s:\n%v", at, version, op, err)
	}
}

// send makes a request on a connection of its own; one that was upgraded is read to its end.
func (c *checker) send(method, target string, body []byte) (status int, contentType string, answer []byte) {
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://docker"+target, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := req.Write(conn); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, resp.Header.Get("Content-Type"), nil
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), data
}

// removeAll removes what a run that failed has left: containers outlive a daemon.
func (c *checker) removeAll() {
	_, _, list := c.send("GET", "/containers/json?all=true", nil)
	for _, m := range anID.FindAllSubmatch(list, -1) {
		c.send("DELETE", "/containers/"+string(m[1])+"?force=true", nil)
	}
}

var variable = regexp.MustCompile(`\{[a-z]+\}`)

// absent lists the operations that the newest version has and the daemon does not
// serve, and those that no request has asked for.
func (c *checker) absent() string {
	var out strings.Builder
	for _, op := range c.spec(newestVersion).Operations() {
		if c.asked[op.String()] {
			continue
		}
		// A request for nothing that is there, which changes nothing.
		code, _, answer := c.send(op.Method, "/"+newestVersion+variable.ReplaceAllString(op.Path, "nosuch"), nil)
		why := "not asked for"
		switch {
		case code == http.StatusNotFound && bytes.Contains(answer, []byte("page not found")):
			why = "no such page"
		case code == http.StatusNotImplemented, code == http.StatusServiceUnavailable:
			why = fmt.Sprint(code)
		}
		fmt.Fprintf(&out, "%-14s %s\n", why, op)
	}
	return out.String()
}
