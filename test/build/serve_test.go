package build

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// served is a server of files and of a git repository.
type served struct {
	url    string
	commit string // of the repository's branch main
}

// serveFiles serves /hello.txt, /Dockerfile, /long and /git/repo.git.
func serveFiles(t *testing.T) *served {
	t.Helper()
	dir := t.TempDir()
	repo := filepath.Join(dir, "git", "repo.git")
	const script = `set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_DATE="1700000000 +0000" GIT_COMMITTER_DATE="1700000000 +0000"
git init -q -b main work; cd work; mkdir sub; echo from git > file; echo deep > sub/file
printf 'FROM box\nCOPY file /file\n' > Dockerfile
git add .; git commit -q -m one; git tag v1
cd ..; git clone -q --bare work "$0"; git -C "$0" rev-parse main`
	cmd := exec.Command("sh", "-c", script, repo)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := os.Mkdir(filepath.Join(dir, "git"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello.txt", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
		w.Write([]byte("hello by http\n"))
	})
	mux.HandleFunc("/Dockerfile", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("FROM box\nRUN echo \"by the server's\" > /made\n"))
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("FROM box\nRUN sleep 1000\n"))
	})
	mux.Handle("/git/", &cgi.Handler{Path: "/usr/lib/git-core/git-http-backend", Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(repo), "GIT_HTTP_EXPORT_ALL=1"}, Root: "/git"})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return &served{url: s.URL, commit: strings.TrimSpace(string(out))}
}
