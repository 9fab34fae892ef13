package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/test/imagerig"
)

// ctr2 runs the current ctr, whose commands ask the daemon's transfer service.
func (r *Rig) ctr2(args ...string) string {
	r.t.Helper()
	return r.Must(Tool(r.t, "ctr"), append([]string{"-a", r.Socket()}, args...)...)
}

// at is another name in the registry.
func (r *Rig) at(name string) string {
	return strings.TrimSuffix(r.Image, "busybox:latest") + name
}

func (r *Rig) digest(ref string) string {
	r.t.Helper()
	return strings.TrimSpace(r.Must(Tool(r.t, "crane"), "digest", ref))
}

func TestCtr2Pulls(t *testing.T) {
	r := New(t)
	for _, ss := range []string{"overlayfs", "native", "erofs"} {
		t.Run(ss, func(t *testing.T) {
			ns := []string{"-n", "pull-" + ss}
			out := r.ctr2(append(ns, "image", "pull", "--snapshotter", ss, r.Image)...)
			expect(t, out, "saved")
			expect(t, r.ctr2(append(ns, "image", "check", "--snapshotter", ss)...), "complete (4/4)")
			expect(t, r.ctr2(append(ns, "image", "check", "--snapshotter", ss)...), "true")
			out = r.ctr2(append(ns, "run", "--rm", "--snapshotter", ss, r.Image, "one-"+ss, "/bin/sh", "-c", "cat /hello; ls /etc")...)
			expect(t, out, "hello from the second layer")
			if strings.Contains(out, "doomed") {
				t.Fatalf("a file that a layer deletes is there:\n%s", out)
			}
			dir := t.TempDir()
			r.ctr2(append(ns, "image", "mount", "--snapshotter", ss, r.Image, dir)...)
			data, err := os.ReadFile(filepath.Join(dir, "hello"))
			r.ctr2(append(ns, "image", "unmount", "--rm", "--snapshotter", ss, dir)...)
			if err != nil || !strings.Contains(string(data), "hello from") {
				t.Fatalf("mounted: %q, %v", data, err)
			}
		})
	}
	// Without a snapshotter it is unpacked where the client will look.
	r.ctr2("-n", "plain", "image", "pull", r.Image)
	expect(t, r.ctr2("-n", "plain", "image", "check"), "true")
	// The namespace's label is heeded by both sides.
	r.ctr2("ns", "create", "label", "containerd.io/defaults/snapshotter=erofs")
	r.ctr2("-n", "label", "image", "pull", r.Image)
	expect(t, r.ctr2("-n", "label", "snapshot", "--snapshotter", "erofs", "ls"), "Committed")
	expect(t, r.ctr2("-n", "label", "run", "--rm", r.Image, "labelled", "/bin/cat", "/hello"), "hello from")
	r.ctr2("-n", "local", "image", "pull", "--local", "--plain-http", r.Image)
	expect(t, r.ctr2("-n", "local", "image", "check"), "complete (4/4)")
	out, code := r.Run("", Tool(t, "ctr"), "-a", r.Socket(), "image", "pull", r.at("none:1"))
	if code == 0 {
		t.Fatal("an image that isn't there is pulled")
	}
	expect(t, out, "not found")
}

func TestCtr2Pushes(t *testing.T) {
	r := New(t)
	r.ctr2("image", "pull", r.Image)
	want := r.digest(r.Image)
	out := r.ctr2("image", "push", r.at("other/box:v1"), r.Image)
	expect(t, out, "mounted")
	r.ctr2("image", "push", "--local", "--plain-http", r.at("third/box:v1"), r.Image)
	for _, name := range []string{"other/box:v1", "third/box:v1"} {
		if got := r.digest(r.at(name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
		r.Must(Tool(t, "crane"), "validate", "--remote", r.at(name))
	}
	r.ctr2("image", "tag", r.Image, "docker.io/library/box:v2")
	expect(t, r.ctr2("image", "ls"), "docker.io/library/box:v2")
	expect(t, r.ctr2("run", "--rm", "docker.io/library/box:v2", "tagged", "/bin/cat", "/hello"), "hello from")
}

// Archives go to and come from everybody.
func TestArchives(t *testing.T) {
	r := New(t)
	r.ctr2("image", "pull", r.Image)
	r.ctr2("image", "tag", r.Image, "docker.io/library/box:v1")
	want := r.digest(r.Image)
	file := r.path("box.tar")
	r.ctr2("image", "export", file, "docker.io/library/box:v1")
	skopeo := func(args ...string) {
		t.Helper()
		r.Must("skopeo", append([]string{"copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"}, args...)...)
	}
	skopeo("oci-archive:"+file, "docker://"+r.at("skopeo/oci:v1"))
	if got := r.digest(r.at("skopeo/oci:v1")); got != want {
		t.Errorf("through skopeo it is %s, want %s", got, want)
	}
	skopeo("docker-archive:"+file+":docker.io/library/box:v1", "docker://"+r.at("skopeo/docker:v1"))
	r.Must(Tool(t, "crane"), "validate", "--remote", r.at("skopeo/docker:v1"))
	layout := r.path("exported")
	if err := os.Mkdir(layout, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Must("tar", "xf", file, "-C", layout)
	r.Must(Tool(t, "crane"), "push", layout, r.at("crane/layout:v1"))
	r.Must(Tool(t, "oras"), "cp", "--from-oci-layout", layout+":v1", "--to-plain-http", r.at("oras/layout:v1"))
	if got := r.digest(r.at("oras/layout:v1")); got != want {
		t.Errorf("through oras it is %s, want %s", got, want)
	}

	skopeo("docker://"+r.Image, "docker-archive:"+r.path("s.tar")+":reg.example/skopeo:docker")
	skopeo("docker://"+r.Image, "oci-archive:"+r.path("o.tar")+":reg.example/skopeo:oci")
	r.Must(Tool(t, "crane"), "pull", r.Image, r.path("c.tar"))
	r.Must(Tool(t, "crane"), "pull", "--format=oci", r.Image, r.path("cranelayout"))
	r.Must("tar", "czf", r.path("cl.tgz"), "-C", r.path("cranelayout"), ".")
	for i, c := range []struct{ file, name string }{
		{"s.tar", "reg.example/skopeo:docker"}, {"o.tar", "reg.example/skopeo:oci"}, {"c.tar", r.Image}, {"cl.tgz", "example.com/unnamed@" + want}, {"box.tar", "docker.io/library/box:v1"},
	} {
		ns := fmt.Sprint("import", i)
		args := []string{"-n", ns, "image", "import"}
		if c.file == "cl.tgz" {
			args = append(args, "--base-name", "example.com/unnamed", "--digests")
		}
		r.ctr2(append(args, r.path(c.file))...)
		expect(t, r.ctr2("-n", ns, "image", "ls", "-q"), c.name)
		expect(t, r.ctr2("-n", ns, "run", "--rm", c.name, "imported", "/bin/cat", "/hello"), "hello from the second layer")
	}
	// Through a pipe (into which ctr prints its progress, too, unless it exports by
	// itself), and by the client's own code.
	out, code := r.Run("", "sh", "-c", fmt.Sprintf("%[1]s -a %[2]s image export --local - docker.io/library/box:v1 | %[1]s -a %[2]s -n piped image import -", Tool(t, "ctr"), r.Socket()))
	if code != 0 {
		t.Fatalf("through a pipe: exit %d\n%s", code, out)
	}
	r.ctr2("image", "export", "--local", r.path("local.tar"), "docker.io/library/box:v1")
	r.ctr2("-n", "local", "image", "import", "--local", file)
	r.ctr2("-n", "local2", "image", "import", r.path("local.tar"))
	for _, ns := range []string{"piped", "local", "local2"} {
		expect(t, r.ctr2("-n", ns, "image", "ls", "-q"), "docker.io/library/box:v1")
	}
}

// An image for several platforms, of which one is pulled, and what others attached
// to it.
func TestIndexAndReferrers(t *testing.T) {
	r := New(t)
	crane, oras := Tool(t, "crane"), Tool(t, "oras")
	r.Must(crane, "mutate", "--set-platform", "linux/arm64", "-t", r.at("parts:arm64"), r.Image)
	r.Must(crane, "mutate", "--set-platform", "linux/amd64", "-t", r.at("parts:amd64"), r.Image)
	r.Must(crane, "index", "append", "-m", r.at("parts:amd64"), "-m", r.at("parts:arm64"), "-t", r.at("multi:v1"))
	r.ctr2("image", "pull", "--skip-metadata", r.at("multi:v1"))
	expect(t, r.ctr2("run", "--rm", r.at("multi:v1"), "m1", "/bin/cat", "/hello"), "hello from")
	r.ctr2("image", "push", "--platform", "linux/amd64", r.at("part:v1"), r.at("multi:v1"))
	if got, want := r.digest(r.at("part:v1")), r.digest(r.at("parts:amd64")); got != want {
		t.Errorf("one platform is pushed as %s, want %s", got, want)
	}
	r.ctr2("-n", "all", "image", "pull", "--all-platforms", r.at("multi:v1"))
	r.ctr2("-n", "all", "image", "push", r.at("whole:v1"), r.at("multi:v1"))
	if got, want := r.digest(r.at("whole:v1")), r.digest(r.at("multi:v1")); got != want {
		t.Errorf("the index is pushed as %s, want %s", got, want)
	}
	note := r.path("note.txt")
	if err := os.WriteFile(note, []byte("a note"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Must("sh", "-c", fmt.Sprintf("cd %s && %s attach --plain-http --artifact-type example/note %s note.txt", r.dir, oras, r.at("whole:v1")))
	before := r.Must(oras, "discover", "--plain-http", r.at("whole:v1"))
	expect(t, before, "example/note")
	r.ctr2("-n", "all", "image", "push", r.at("whole:v1"), r.at("multi:v1"))
	if after := r.Must(oras, "discover", "--plain-http", r.at("whole:v1")); after != before {
		t.Errorf("referrers before\n%s\nand after a push\n%s", before, after)
	}
	// An artifact is no file system, and can be stored all the same.
	r.Must("sh", "-c", fmt.Sprintf("cd %s && %s push --plain-http %s note.txt", r.dir, oras, r.at("artifact:v1")))
	r.ctr2("image", "pull", "--all-platforms", r.at("artifact:v1"))
	r.ctr2("image", "push", r.at("copied:v1"), r.at("artifact:v1"))
	if got, want := r.digest(r.at("copied:v1")), r.digest(r.at("artifact:v1")); got != want {
		t.Errorf("the artifact is pushed as %s, want %s", got, want)
	}
}

// Logins by password and by token, given on the client's command line; mirrors.
func TestLoginsAndMirrors(t *testing.T) {
	r := New(t)
	img := imagerig.NewImage(t, imagerig.Linux("amd64"), imagerig.Tar(t, imagerig.File{Name: "f", Data: []byte("f")}))
	basic := imagerig.NewRegistry(t)
	basic.Password = "sesame"
	basic.Put("app", "v1", img)
	r.ctr2("image", "pull", "-u", "user:sesame", basic.Host+"/app:v1")
	r.ctr2("image", "push", "-u", "user:sesame", basic.Host+"/copy:v1", basic.Host+"/app:v1")
	out, code := r.Run("", Tool(t, "ctr"), "-a", r.Socket(), "image", "pull", "-u", "user:wrong", basic.Host+"/app:v1")
	if code == 0 {
		t.Fatal("a wrong password is good enough")
	}
	expect(t, out, "401")

	bearer := imagerig.NewRegistry(t)
	bearer.Token = "t0ken"
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, pass, _ := req.BasicAuth(); pass != "sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"token":"t0ken"}`)
	}))
	defer realm.Close()
	bearer.Realm = realm.URL
	bearer.Put("app", "v1", img)
	r.ctr2("image", "pull", "-u", "user:sesame", bearer.Host+"/app:v1")

	hosts := r.path("hosts", "reg.example")
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		t.Fatal(err)
	}
	toml := fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:2\"]\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", strings.TrimSuffix(r.at(""), "/"))
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	r.ctr2("-n", "mirror", "image", "pull", "--hosts-dir", r.path("hosts"), "reg.example/busybox:latest")
	expect(t, r.ctr2("-n", "mirror", "image", "ls", "-q"), "reg.example/busybox:latest")
}

// A client that is interrupted ends the daemon's work.
func TestInterruptedPull(t *testing.T) {
	r := New(t)
	reg := imagerig.NewRegistry(t)
	gone := make(chan struct{})
	reg.Before = func(_ http.ResponseWriter, req *http.Request) bool {
		<-req.Context().Done()
		close(gone)
		return true
	}
	cmd := exec.Command(Tool(t, "ctr"), "-a", r.Socket(), "image", "pull", reg.Host+"/app:v1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for len(reg.Requests("GET")) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon goes on asking the registry")
	}
}
