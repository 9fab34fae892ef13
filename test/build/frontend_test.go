package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// remoteSyntax builds with a frontend that a Dockerfile names and a registry has.
func remoteSyntax(t *testing.T, r *rig, _ string) {
	cmd := exec.Command("go", "build", "-o", r.path("frontend", "frontend"), "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend")
	cmd.Dir, cmd.Env = "tool", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.write("frontend/Dockerfile", "FROM scratch\nCOPY frontend /\nENTRYPOINT [\"/frontend\"]\n")
	r.buildx("--push", "-t", r.registry+"/frontend", r.path("frontend"))
	r.write("syntax/Dockerfile", "# syntax="+r.registry+"/frontend\nFROM box\nCOPY <<end /told\nby a frontend of my own\nend\n")
	for name, build := range map[string]func(){
		"buildx":  func() { r.buildx("-t", "syntax:buildx", r.path("syntax")) },
		"classic": func() { r.run("env", "DOCKER_BUILDKIT=0", "docker", "build", "-t", "syntax:classic", r.path("syntax")) },
		"orlop":   func() { r.run(r.bin+"/orlop", "build", "-t", "syntax:orlop", r.path("syntax")) },
	} {
		build()
		if got := r.docker("run", "--rm", "--network", "none", "syntax:"+name, "cat", "/told"); got != "by a frontend of my own" {
			t.Errorf("%s: %q", name, got)
		}
	}
	r.write("nosyntax/Dockerfile", "# syntax="+r.registry+"/none\nFROM box\n")
	if out, err := r.try("docker", "buildx", "build", r.path("nosyntax")); err == nil || !strings.Contains(out, "/none") {
		t.Errorf("a frontend that isn't there: %v\n%s", err, out)
	}
}

// statement is what a scanner says of a file system, as in-toto has it.
const statement = `{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "predicate": {
  "spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "scanned", "comment": "$(ls "$BUILDKIT_SCAN_SOURCE" | tr '\n' ' ')"}}`

// billOfMaterials lets a scanner of our own look at the image that is built.
func billOfMaterials(t *testing.T, r *rig, dir string) {
	r.write("scanner/scan", "#!/bin/sh\ncat > \"$BUILDKIT_SCAN_DESTINATION/files.spdx.json\" <<end\n"+statement+"\nend\n")
	r.write("scanner/Dockerfile", "FROM box\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n")
	r.buildx("--push", "-t", r.registry+"/scanner", r.path("scanner"))
	r.buildx("--attest", "type=sbom,generator="+r.registry+"/scanner", "--push", "-t", r.registry+"/billed", dir)
	r.run(r.bin+"/orlop", "build", "--sbom=generator="+r.registry+"/scanner", "--provenance", "--push", "-t", r.registry+"/billed:orlop", dir)
	if text := r.docker("buildx", "imagetools", "inspect", "--format", "{{json .SBOM}} {{json .Provenance}}", r.registry+"/billed:orlop"); !strings.Contains(text, `"comment": "made `) || !strings.Contains(text, "buildDefinition") {
		t.Errorf("orlop: bill of materials and provenance: %s", text)
	}
	if text := r.docker("buildx", "imagetools", "inspect", "--format", "{{json .SBOM}}", r.registry+"/billed"); !strings.Contains(text, `"comment": "made `) {
		t.Errorf("bill of materials: %s", text)
	}
	r.docker("pull", "-q", r.registry+"/billed")
}

// agentOfKeys gives a step the client's ssh agent, and only that step.
func agentOfKeys(t *testing.T, r *rig, _ string) {
	agent := exec.Command("ssh-agent", "-D", "-a", r.path("agent"))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	r.wait("unix", r.path("agent"))
	r.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", r.path("key"))
	r.run("env", "SSH_AUTH_SOCK="+r.path("agent"), "ssh-add", "-q", r.path("key"))
	want := strings.Fields(r.run("ssh-keygen", "-lf", r.path("key")))[1]

	r.copyProgram(t, "ssh-add", "ssh/root")
	r.write("ssh/Dockerfile", "FROM box\nCOPY root /\nRUN --mount=type=ssh /usr/bin/ssh-add -l > /keys\nRUN test -z \"$SSH_AUTH_SOCK\"\nCMD cat /keys\n")
	r.buildx("--ssh", "default="+r.path("agent"), "-t", "keys:buildx", r.path("ssh"))
	r.run(r.buildctl, "build", "--frontend", "dockerfile.v0", "--local", "context="+r.path("ssh"), "--local", "dockerfile="+r.path("ssh"), "--no-cache",
		"--ssh", "default="+r.path("agent"), "--output", "type=image,name=docker.io/library/keys:buildctl")
	r.run(r.bin+"/orlop", "build", "--no-cache", "--ssh", "default="+r.path("agent"), "-t", "keys:orlop", r.path("ssh"))
	for _, image := range []string{"keys:buildx", "keys:buildctl", "keys:orlop"} {
		if got := r.docker("run", "--rm", "--network", "none", image); !strings.Contains(got, want) {
			t.Errorf("%s: the agent has %q, want %s", image, got, want)
		}
	}
	if out, err := r.try("docker", "buildx", "build", "--no-cache", r.path("ssh")); err == nil {
		t.Errorf("a step has an agent that the client didn't give:\n%s", out)
	}
}

// copyProgram puts a program of the machine and the libraries it needs below a folder.
func (r *rig) copyProgram(t *testing.T, name, to string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{path}
	for _, word := range strings.Fields(r.run("ldd", path)) {
		if filepath.IsAbs(word) {
			files = append(files, word)
		}
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r.write(filepath.Join(to, f), string(data))
		if err := os.Chmod(r.path(to, f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
