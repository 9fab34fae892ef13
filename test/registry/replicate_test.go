package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/orlop/orlop/test/e2e"
)

// to is a config that pushes everything to a target.
func to(target, more string) string {
	return fmt.Sprintf("[[plugins.\"io.containerd.server.v1.registry\".replication]]\nname = \"copy\"\ntarget = %q\nretry = \"100ms\"\n%s\n", target, more)
}

// status is what the registry tells of its one rule.
func (d *daemon) status() (s struct {
	Waiting, Failing, Pushed, Deleted, Refused int
	Survey                                     bool
	Error                                      string
}) {
	d.t.Helper()
	_, _, text := d.ask("GET", "/v2/_orlop/replication", nil)
	var out struct{ Rules []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Rules) != 1 {
		d.t.Fatalf("%s: %v", text, err)
	}
	if err := json.Unmarshal(out.Rules[0], &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// arrives waits until a name has a digest at some registry.
func arrives(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, name+" is "+want, func() bool {
		got, ok := crane(t, "digest", name)
		return ok && got == want
	})
}

// settled waits until nothing waits.
func (d *daemon) settled() {
	d.t.Helper()
	eventually(d.t, "nothing waits", func() bool { s := d.status(); return s.Waiting == 0 && !s.Survey })
}

func TestReplication(t *testing.T) {
	target := serve(t, "")
	d := serve(t, "")
	dir := layout(t)
	// What was there before the rule is pushed, too.
	mustCrane(t, "push", dir, d.address+"/old/box:1")
	d.stop()
	d.write("config.toml", "version = 4\n"+to(target.address, "prefix = \"mirror/\"\ndeletes = true\nrepositories = [\"old/**\", \"team/*\"]"))
	d.start()
	digest := mustCrane(t, "digest", d.address+"/old/box:1")
	arrives(t, target.address+"/mirror/old/box:1", digest)

	mustCrane(t, "push", dir, d.address+"/team/box:1")
	mustCrane(t, "push", dir, d.address+"/other/box:1")
	mustCrane(t, "mutate", "--label", "a=b", "-t", d.address+"/team/box:2", d.address+"/team/box:1")
	mustCrane(t, "index", "append", "-m", d.address+"/team/box:1", "-m", d.address+"/team/box:2", "-t", d.address+"/team/box:all")
	for _, tag := range []string{"1", "2", "all"} {
		arrives(t, target.address+"/mirror/team/box:"+tag, mustCrane(t, "digest", d.address+"/team/box:"+tag))
		mustCrane(t, "validate", "--remote", target.address+"/mirror/team/box:"+tag)
	}
	// A tag that moves, one that is deleted, a manifest that is.
	mustCrane(t, "tag", d.address+"/team/box:2", "1")
	arrives(t, target.address+"/mirror/team/box:1", mustCrane(t, "digest", d.address+"/team/box:2"))
	if code, _, text := d.ask("DELETE", "/v2/team/box/manifests/1", nil); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, text)
	}
	mustCrane(t, "delete", d.address+"/team/box@"+mustCrane(t, "digest", d.address+"/team/box:all"))
	eventually(t, "the tags are gone", func() bool {
		out, ok := crane(t, "ls", target.address+"/mirror/team/box")
		return ok && out == "2"
	})
	d.settled()
	if out, ok := crane(t, "digest", target.address+"/mirror/other/box:1"); ok {
		t.Errorf("a repository that the rule isn't about was pushed: %s", out)
	}
	out, err := exec.Command(filepath.Join(programs, "orlop"), "registry", "replication", d.address).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "up to date") {
		t.Errorf("%v: %s", err, out)
	}
	// Everything again, when the target has lost it.
	mustCrane(t, "delete", target.address+"/mirror/team/box@"+mustCrane(t, "digest", d.address+"/team/box:2"))
	if out, err := exec.Command(filepath.Join(programs, "orlop"), "registry", "replication", "--again", "copy", d.address).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	arrives(t, target.address+"/mirror/team/box:2", mustCrane(t, "digest", d.address+"/team/box:2"))
}

// The registry is killed while it pushes a layer to a target that comes and goes: it all
// arrives, once both stay.
func TestReplicationOverKills(t *testing.T) {
	target := serve(t, "")
	var failing atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target.address})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	flaps := &http.Server{Addr: e2e.FreeAddress(t), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := failing.Add(1); n%5 == 0 {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		} else if n%7 == 0 {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	})}
	go flaps.ListenAndServe()
	t.Cleanup(func() { flaps.Close() })

	d := serve(t, to(flaps.Addr, ""))
	mustCrane(t, "append", "-f", noise(t, 32), "-t", d.address+"/a/large:1")
	dir := layout(t)
	want := map[string]string{"large:1": mustCrane(t, "digest", d.address+"/a/large:1")}
	for i := range 6 {
		name := fmt.Sprintf("box:%d", i)
		mustCrane(t, "push", dir, d.address+"/a/"+name)
		mustCrane(t, "mutate", "--label", "n="+name, "-t", d.address+"/a/"+name, d.address+"/a/"+name)
		want[name] = mustCrane(t, "digest", d.address+"/a/"+name)
		d.kill()
		if i%2 == 0 {
			target.kill()
			target.start()
		}
		d.start()
	}
	for name, digest := range want {
		arrives(t, target.address+"/a/"+name, digest)
		mustCrane(t, "validate", "--remote", target.address+"/a/"+name)
	}
	d.settled()
}

// What the target refuses doesn't hold up the rest, and is told once it may be.
func TestReplicationRefused(t *testing.T) {
	const immutable = "[plugins.\"io.containerd.server.v1.registry\"]\nimmutable = [{repositories = [\"**\"], tags = [\"v*\"]}]\n"
	target := serve(t, immutable)
	d := serve(t, to(target.address, ""))
	dir := layout(t)
	mustCrane(t, "push", dir, target.address+"/a/box:v1")
	mustCrane(t, "push", dir, d.address+"/a/box:base")
	mustCrane(t, "mutate", "--label", "a=b", "-t", d.address+"/a/box:v1", d.address+"/a/box:base")
	mustCrane(t, "tag", d.address+"/a/box:v1", "latest")
	digest := mustCrane(t, "digest", d.address+"/a/box:v1")
	arrives(t, target.address+"/a/box:latest", digest)
	eventually(t, "the refusal is shown", func() bool {
		s := d.status()
		return s.Failing == 1 && s.Refused > 1 && strings.Contains(s.Error, "immutable")
	})
	target.stop()
	target.write("config.toml", "version = 4\n")
	target.start()
	arrives(t, target.address+"/a/box:v1", digest)
	d.settled()
}

// Debian's registry as the target, with a password.
func TestReplicationToDockerRegistry(t *testing.T) {
	dir, address := t.TempDir(), e2e.FreeAddress(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"users": "copier:" + string(hash) + "\n", "password": "secret\n",
		"config.yml": fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: x, path: %s/users}}\n", dir, address, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	peer := exec.Command("docker-registry", "serve", filepath.Join(dir, "config.yml"))
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Process.Kill(); peer.Wait() })
	d := serve(t, to(address, fmt.Sprintf("username = \"copier\"\npassword_file = %q", filepath.Join(dir, "password"))))
	mustCrane(t, "append", "-f", noise(t, 8), "-t", d.address+"/a/box:1")
	d.settled()
	eventually(t, "it is told", func() bool { return d.status().Pushed > 0 })
	d.settled()
	req, err := http.NewRequest("HEAD", "http://"+address+"/v2/a/box/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("copier", "secret")
	req.Header.Set("Accept", "*/*, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := res.Header.Get("Docker-Content-Digest"), mustCrane(t, "digest", d.address+"/a/box:1"); got != want {
		t.Errorf("the peer has %q, want %q", got, want)
	}
}
