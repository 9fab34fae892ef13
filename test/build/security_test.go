package build

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sentinel is a folder of the host's that no build may read, fill or empty.
type sentinel struct{ dir, file, empty string }

const treasure = "treasure-of-the-host"

func (r *rig) sentinel() sentinel {
	r.write("host/file", treasure)
	r.write("host/empty", "")
	return sentinel{r.path("host"), r.path("host", "file"), r.path("host", "empty")}
}

// intact wants the folder to be as it was.
func (s sentinel) intact(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the host's folder has %v, %v", entries, err)
	}
	if data, err := os.ReadFile(s.file); string(data) != treasure {
		t.Errorf("the host's file is %q, %v", data, err)
	}
}

// TestSecurity tries what was a hole in other builders.
func TestSecurity(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	host := r.sentinel()
	for name, fn := range map[string]func(*testing.T, *rig, sentinel){"mounts": evilMounts, "entitlements": unentitled, "archives": evilArchives,
		"sources": evilSources, "folders": evilFolders} {
		t.Run(name, func(t *testing.T) {
			fn(t, r, host)
			host.intact(t)
		})
	}
}

// evil builds a Dockerfile by buildx, and wants it not to have seen the treasure. It
// returns what was printed and whether the build failed.
func (r *rig) evil(t *testing.T, text string, args ...string) (string, bool) {
	t.Helper()
	r.write("evil/Dockerfile", text)
	out, err := r.try("docker", append(append([]string{"buildx", "build", "--no-cache", "--progress", "plain", "-t", "evil"}, args...), r.path("evil"))...)
	if strings.Contains(out, treasure) {
		t.Errorf("the host's file was read:\n%s\n%s", text, out)
	}
	return out, err != nil
}

// evilMounts are CVE-2024-23651 and CVE-2024-23652: sources of mounts that are links, and
// mount points that lie behind links, which are removed after the step.
func evilMounts(t *testing.T, r *rig, host sentinel) {
	for _, kind := range []string{"cache,id=evil", "bind,from=made"} {
		r.evil(t, fmt.Sprintf(`FROM box AS made
RUN --mount=type=cache,id=evil,target=/c /bin/busybox ln -sfn %[1]s /c/link && /bin/busybox ln -s %[1]s /link
FROM box
RUN --mount=type=%[2]s,source=link,target=/m cat /m/file
`, host.dir, kind))
		host.intact(t)
	}
	for _, mount := range []string{"tmpfs,target=/link/empty", "tmpfs,target=/link/new", "cache,target=/link/new", "bind,from=box,target=/link/empty", "tmpfs,target=/link"} {
		r.evil(t, fmt.Sprintf("FROM box AS made\nRUN /bin/busybox ln -s %s /link\nFROM made\nRUN --mount=type=%s true\n", host.dir, mount))
		host.intact(t)
	}
}

// unentitled is CVE-2024-23653: rights that nobody has granted.
func unentitled(t *testing.T, r *rig, _ sentinel) {
	for text, allow := range map[string]string{
		"# syntax=\nFROM box\nRUN --security=insecure true\n": "", "FROM box\nRUN --security=insecure true\n": "security.insecure", "FROM box\nRUN --network=host true\n": "",
	} {
		args := []string{}
		if allow != "" {
			args = []string{"--allow", allow} // the daemon's config doesn't
		}
		out, failed := r.evil(t, strings.TrimPrefix(text, "# syntax=\n"), args...)
		if !failed || !strings.Contains(out, "not allowed") {
			t.Errorf("%q with %q: it isn't refused:\n%s", text, allow, out)
		}
	}
}

// evilArchives are bodies of the classic API that unpack to somewhere else.
func evilArchives(t *testing.T, r *rig, host sentinel) {
	dockerfile := tar.Header{Name: "Dockerfile", Typeflag: tar.TypeReg, Mode: 0o644}
	up := strings.Repeat("../", 30)
	for name, list := range map[string][]tar.Header{
		"above":           {{Name: up + host.dir[1:] + "/new", Typeflag: tar.TypeReg}},
		"absolute":        {{Name: host.dir + "/new", Typeflag: tar.TypeReg}},
		"through a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: host.dir}, {Name: "l/new", Typeflag: tar.TypeReg}},
		"over a link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: host.file}, {Name: "l", Typeflag: tar.TypeReg}},
		"of a hard link":  {{Name: "l", Typeflag: tar.TypeLink, Linkname: up + host.file[1:]}},
		"link by a link":  {{Name: "d", Typeflag: tar.TypeSymlink, Linkname: host.dir}, {Name: "l", Typeflag: tar.TypeLink, Linkname: "d/file"}},
		"reading a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: host.dir}},
		"the Dockerfile":  {{Name: "Dockerfile", Typeflag: tar.TypeSymlink, Linkname: host.file}},
		"length of a lie": {{Name: "x", Typeflag: tar.TypeReg, Size: 1 << 40}},
	} {
		var body bytes.Buffer
		w := tar.NewWriter(&body)
		text := "FROM box\nCOPY . /all\nRUN cat /all/l/file /all/l; true\n"
		dockerfile.Size = int64(len(text))
		w.WriteHeader(&dockerfile)
		io.WriteString(w, text)
		for _, h := range list {
			h.Mode = 0o644
			w.WriteHeader(&h)
		}
		w.Flush()
		resp, err := r.api().Post("http://docker/build?nocache=1", "application/x-tar", &body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil || bytes.Contains(out, []byte(treasure)) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		host.intact(t)
	}
}

// evilSources are contexts and files by addresses that are the host's, or options.
func evilSources(t *testing.T, r *rig, host sentinel) {
	r.write("evil/f", "f")
	for _, source := range []string{"file://" + host.file, host.file, "ext::sh% -c% cat% " + host.file, "--upload-pack=cat"} {
		out, failed := r.evil(t, "FROM scratch\nADD "+source+" /x\n")
		if !failed {
			t.Errorf("ADD %s: it isn't refused:\n%s", source, out)
		}
	}
	mark := r.path("host", "new")
	for _, remote := range []string{"file://" + host.dir, host.dir, r.served.url + "/git/repo.git#--upload-pack=touch " + mark, r.served.url + "/git/repo.git#main:../../../.." + host.dir,
		"git://-oProxyCommand=touch " + mark + "/x", "ssh://-oProxyCommand=touch%20" + mark + "/x.git"} {
		resp, err := r.api().Post("http://docker/build?remote="+url.QueryEscape(remote), "", nil)
		if err != nil {
			t.Errorf("%s: %v", remote, err)
			continue
		}
		out, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if !bytes.Contains(out, []byte(`"error"`)) && resp.StatusCode < 400 || bytes.Contains(out, []byte(treasure)) {
			t.Errorf("remote %s: status %d\n%s", remote, resp.StatusCode, out)
		}
	}
}

// evilFolders is CVE-2024-21626: a working folder that is one the daemon has open.
func evilFolders(t *testing.T, r *rig, host sentinel) {
	text := "FROM box\n"
	for fd := 3; fd < 16; fd++ {
		text = fmt.Sprintf("FROM box\nWORKDIR /proc/self/fd/%d\nRUN cat ../../../../../../..%s ; cat %s; pwd\n", fd, host.file, host.file)
		r.evil(t, text)
	}
	r.write("evil/Dockerfile", "FROM box\nCOPY link/file /x\n")
	link := filepath.Join(r.path("evil"), "link")
	if err := os.Symlink(host.dir, link); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"classic": {"env", "DOCKER_BUILDKIT=0", "docker", "build", r.path("evil")}, "buildx": {"docker", "buildx", "build", r.path("evil")},
		"orlop": {r.bin + "/orlop", "build", r.path("evil")}} {
		if out, err := r.try(args[0], args[1:]...); err == nil {
			t.Errorf("%s copies out of the context:\n%s", name, out)
		}
	}
}
