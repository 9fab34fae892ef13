package build

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/test/s3rig"
)

// app is what most of these tests build.
const app = `-- Dockerfile --
FROM box AS made
COPY f /f
RUN echo made > /made && cat /f >> /made
FROM scratch
COPY --from=made /made /made
-- f --
f
`

// TestOutputs tries what a build can be given out as, and what can be told with it.
func TestOutputs(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.write("app.txtar", app)
	s := r.readScene(t, r.path("app.txtar"))
	for name, fn := range map[string]func(*testing.T, *rig, string){"local": outLocal, "archives": outArchives, "push": outPush, "attestations": attested, "caches": cached,
		"secrets": hush, "bake": bake, "compose": compose, "history": told, "gone": gone,
		"syntax": remoteSyntax, "bill": billOfMaterials, "ssh": agentOfKeys, "errors": excerpt} {
		t.Run(name, func(t *testing.T) { fn(t, r, s.dir) })
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("builds have left:\n%s", strings.Join(left, "\n"))
	}
}

func (r *rig) buildx(args ...string) string {
	return r.docker(append([]string{"buildx", "build", "--progress", "plain"}, args...)...)
}

func outLocal(t *testing.T, r *rig, dir string) {
	r.buildx("--output", "type=local,dest="+r.path("local"), dir)
	if got, err := os.ReadFile(r.path("local", "made")); string(got) != "made\nf\n" {
		t.Errorf("%q %v", got, err)
	}
	r.buildx("--output", "type=tar,dest="+r.path("made.tar"), dir)
	if got := r.run("tar", "xOf", r.path("made.tar"), "made"); got != "made\nf\n" {
		t.Errorf("%q", got)
	}
}

func outArchives(t *testing.T, r *rig, dir string) {
	r.buildx("--output", "type=oci,dest="+r.path("oci.tar"), dir)
	if images, err := readImages(r.path("oci.tar")); err != nil || len(images) != 1 || images[0].check("file /made made\nf") != nil {
		t.Errorf("%v %v", images, err)
	}
	r.buildx("--output", "type=docker,dest="+r.path("docker.tar")+",name=as:docker", dir)
	r.docker("load", "-i", r.path("docker.tar"))
	r.docker("inspect", "as:docker")
	r.buildx("--load", "-t", "as:loaded", dir)
	if a, b := r.docker("inspect", "-f", "{{.RootFS.Layers}}", "as:docker"), r.docker("inspect", "-f", "{{.RootFS.Layers}}", "as:loaded"); a != b {
		t.Errorf("layers of an archive %s, of the store %s", a, b)
	}
}

func outPush(t *testing.T, r *rig, dir string) {
	r.buildx("--push", "-t", r.registry+"/pushed:1", dir)
	r.run(r.buildctl, "build", "--frontend", "dockerfile.v0", "--local", "context="+dir, "--local", "dockerfile="+dir, "--output", "type=image,push=true,name="+r.registry+"/pushed:2")
	one, two := r.manifest(t, "pushed", "1"), r.manifest(t, "pushed", "2")
	if !bytes.Equal(one, two) {
		t.Errorf("pushed by buildx: %s\nby buildctl: %s", one, two)
	}
	r.docker("pull", r.registry+"/pushed:2")
}

// manifest is what a registry has under a tag.
func (r *rig) manifest(t *testing.T, name, tag string) []byte {
	t.Helper()
	return []byte(r.run("skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+r.registry+"/"+name+":"+tag))
}

func attested(t *testing.T, r *rig, dir string) {
	r.buildx("--provenance=mode=max", "--push", "-t", r.registry+"/attested", dir)
	index := string(r.manifest(t, "attested", "latest"))
	if !strings.Contains(index, "attestation-manifest") {
		t.Errorf("no attestation: %s", index)
	}
	text := r.docker("buildx", "imagetools", "inspect", "--format", "{{json .Provenance}}", r.registry+"/attested")
	if !strings.Contains(text, "FROM box AS made") && !strings.Contains(text, "buildkit") {
		t.Errorf("provenance: %s", text)
	}
	r.docker("pull", "-q", r.registry+"/attested") // an index with more than images in it
}

// cached exports the cache in each way, forgets everything, and builds from it.
func cached(t *testing.T, r *rig, dir string) {
	bucket := s3rig.Start(t)
	s3 := "type=s3,region=us-east-1,bucket=" + s3rig.Bucket + ",endpoint_url=" + bucket.Endpoint() + ",use_path_style=true"
	keys := ",access_key_id=" + s3rig.Access + ",secret_access_key=" + s3rig.Secret
	if out, err := r.try("docker", "buildx", "build", "--cache-to", s3, dir); err == nil || !strings.Contains(out, "the daemon's own credentials are not used") {
		t.Errorf("a cache at S3 without keys: %v\n%s", err, out)
	}
	to := map[string][]string{
		"inline":   {"--cache-to", "type=inline", "--push", "-t", r.registry + "/inline"},
		"registry": {"--cache-to", "type=registry,ref=" + r.registry + "/cache,mode=max", "-t", "cached"},
		"local":    {"--cache-to", "type=local,dest=" + r.path("cache") + ",mode=max", "-t", "cached"},
		"s3":       {"--cache-to", s3 + keys + ",mode=max", "-t", "cached"},
	}
	from := map[string]string{"inline": r.registry + "/inline", "registry": "type=registry,ref=" + r.registry + "/cache", "local": "type=local,src=" + r.path("cache"), "s3": s3 + keys}
	for kind, args := range to {
		r.buildx(append(args, dir)...)
		r.docker("builder", "prune", "-af")
		out := r.buildx("--cache-from", from[kind], "-t", "cached:again", dir)
		if !strings.Contains(out, "CACHED") {
			t.Errorf("cache %s: nothing is taken from it:\n%s", kind, out)
		}
	}
}

// hush looks for a secret in all that a build leaves.
func hush(t *testing.T, r *rig, _ string) {
	const value = "so-very-secret-5b1d"
	r.write("hush/Dockerfile", "FROM box\nRUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s test \"$S\" = \"$(cat /run/secrets/s)\" && touch /ok\n")
	r.write("value", value)
	r.buildx("--secret", "id=s,src="+r.path("value"), "--provenance=mode=max", "-t", "hush", r.path("hush"))
	for _, kept := range []string{r.path("root"), r.path("state"), r.path("orlopd.log")} {
		if out, err := exec.Command("grep", "-rl", value, kept).Output(); err == nil {
			t.Errorf("the secret is in %s", out)
		}
	}
	if strings.Contains(r.docker("history", "--no-trunc", "hush"), value) {
		t.Error("the secret is in the history")
	}
}

func bake(t *testing.T, r *rig, dir string) {
	r.write("bake.json", `{"group": {"default": {"targets": ["a", "b"]}}, "target": {
		"a": {"context": "`+dir+`", "tags": ["baked:a"], "target": "made"}, "b": {"context": "`+dir+`", "tags": ["baked:b"]}}}`)
	r.docker("buildx", "bake", "--progress", "plain", "--allow", "fs.read="+dir, "-f", r.path("bake.json"))
	r.docker("inspect", "baked:a", "baked:b")
}

func compose(t *testing.T, r *rig, dir string) {
	r.write("compose/docker-compose.yml", "version: '3'\nservices: {one: {build: {context: "+dir+", target: made}, image: 'composed:one', network_mode: none, command: [cat, /made]}}\n")
	r.run("docker-compose", "-f", r.path("compose", "docker-compose.yml"), "build")
	if got := r.docker("run", "--rm", "--network", "none", "composed:one", "cat", "/made"); got != "made\nf" {
		t.Errorf("%q", got)
	}
}

// told looks at past builds and at what is kept.
func told(t *testing.T, r *rig, dir string) {
	r.buildx("--no-cache", "-t", "told", dir)
	ids := strings.Fields(r.docker("buildx", "history", "ls", "--format", "{{.Ref}}"))
	if len(ids) == 0 {
		t.Fatal("no builds are known")
	}
	if logs := r.docker("buildx", "history", "logs", "--progress", "plain", filepath.Base(ids[0])); !strings.Contains(logs, "RUN echo made") {
		t.Errorf("logs: %s", logs)
	}
	r.docker("buildx", "history", "rm", "--all")
	if ids := r.docker("buildx", "history", "ls", "--format", "{{.Ref}}"); ids != "" {
		t.Errorf("removed builds are known: %s", ids)
	}
	if du := r.docker("buildx", "du"); !strings.Contains(du, "Reclaimable") {
		t.Errorf("du: %s", du)
	}
	r.docker("builder", "prune", "-af")
	if df := r.docker("system", "df", "--format", "{{json .}}"); !strings.Contains(df, `"Build Cache"`) {
		t.Errorf("df: %s", df)
	}
}

// gone ends clients in the middle of a step, and asks for an end by the API.
func gone(t *testing.T, r *rig, _ string) {
	r.write("long/Dockerfile", "FROM box\nRUN --mount=type=cache,target=/c sleep 1000\n")
	for name, args := range map[string][]string{"buildx": {"docker", "buildx", "build", r.path("long")}, "classic": {"env", "DOCKER_BUILDKIT=0", "docker", "build", r.path("long")},
		"buildctl": {r.buildctl, "build", "--frontend", "dockerfile.v0", "--local", "context=" + r.path("long"), "--local", "dockerfile=" + r.path("long")}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = r.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.stepRuns(t, true)
		cmd.Process.Kill()
		cmd.Wait()
		r.stepRuns(t, false)
		if left := r.left(); len(left) > 0 {
			t.Errorf("%s: its end has left:\n%s", name, strings.Join(left, "\n"))
		}
	}
	answered := make(chan string)
	go func() {
		resp, err := r.api().Post("http://docker/build?buildid=mine&remote="+r.served.url+"/long", "", nil)
		if err != nil {
			answered <- err.Error()
			return
		}
		var text bytes.Buffer
		text.ReadFrom(resp.Body)
		resp.Body.Close()
		answered <- text.String()
	}()
	r.stepRuns(t, true)
	if resp, err := r.api().Post("http://docker/build/cancel?id=mine", "", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Error(resp, err)
	}
	var last struct{ Error string }
	lines := strings.Split(strings.TrimSpace(<-answered), "\n")
	if json.Unmarshal([]byte(lines[len(lines)-1]), &last) != nil || last.Error == "" {
		t.Errorf("a cancelled build says %s", lines)
	}
	r.stepRuns(t, false)
}

// api is a client of the daemon's Docker API.
func (r *rig) api() *http.Client {
	return &http.Client{Timeout: clientLimit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.path("state", "docker.sock"))
	}}}
}

// stepRuns waits until a step runs, or none and nothing of it is left.
func (r *rig) stepRuns(t *testing.T, want bool) {
	t.Helper()
	for range 150 {
		runs := len(r.steps()) > 0
		if runs == want && (want || len(r.left()) == 0) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("a step runs: want %v\n%s", want, strings.Join(r.left(), "\n"))
}
