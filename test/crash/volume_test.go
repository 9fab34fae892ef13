package crash

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// volumeFiles is how many files a whole volume of these tests has.
const volumeFiles = 200

// volumeArchive is what volumes are restored from.
func volumeArchive(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range volumeFiles {
		text := strings.Repeat("whole", 100*i)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir/f%d", i), Mode: 0o640, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// volumeState is what is known of a volume: whether it is there, and whole.
type volumeState int

const (
	unknown volumeState = iota
	absent
	empty
	whole
)

// volumeWorker makes, fills and removes volumes of its own.
type volumeWorker struct {
	r       *rig
	name    string
	archive []byte
	states  [4]volumeState
	docker  bool // containers use volumes, too
}

func (w *volumeWorker) volume(i int) string { return fmt.Sprintf("%s-%d", w.name, i) }

func (w *volumeWorker) once(rnd *rand.Rand) {
	i := rnd.IntN(len(w.states))
	switch rnd.IntN(4) {
	case 0:
		if w.states[i] == absent {
			w.settle(i, empty, nil, "create", w.volume(i))
		}
	case 1:
		if w.states[i] == absent || w.states[i] == empty {
			w.settle(i, whole, w.archive, "restore", "--create", w.volume(i))
		}
	case 2:
		if w.states[i] != absent {
			w.settle(i, absent, nil, "rm", w.volume(i))
		}
	case 3:
		if w.docker {
			w.r.docker("run", "--rm", "--network", "none", "--mount",
				"type=volume,src="+w.name+"-mem,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs", w.r.images.base, "/bin/true")
		}
	}
}

// settle runs a command after which a volume is as said.
func (w *volumeWorker) settle(i int, then volumeState, in []byte, args ...string) {
	w.states[i] = unknown
	out, err := w.r.orlopctl(in, append([]string{"volumes"}, args...)...)
	switch {
	case err == nil:
		w.states[i] = then
	case !w.r.killed.Load():
		w.r.t.Errorf("orlopctl volumes %s: %v while the daemon runs\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *rig) orlopctl(in []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.clients, clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "orlopctl"), append([]string{"-a", r.socket()}, args...)...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &errs
	out, err := cmd.Output()
	if err != nil {
		return append(out, errs.Bytes()...), err
	}
	return out, nil
}

func (r *rig) docker(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.clients, clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+r.path("state", "docker.sock"), "DOCKER_CONFIG="+r.dir)
	return cmd.CombinedOutput()
}

// lookAt compares what is there with what was acknowledged. What was not may have
// happened or not, but not by half.
func (w *volumeWorker) lookAt() {
	list, err := w.r.orlopctl(nil, "--json", "volumes", "ls")
	if err != nil {
		w.r.t.Errorf("volumes can't be listed: %v\n%s", err, list)
		return
	}
	var all []struct{ Name, Mountpoint string }
	if err := json.Unmarshal(list, &all); err != nil {
		w.r.t.Error(err)
	}
	for i, want := range w.states {
		have := absent
		for _, v := range all {
			if v.Name == w.volume(i) {
				have = w.content(v.Name, v.Mountpoint)
			}
		}
		if want != unknown && have != want {
			w.r.t.Errorf("volume %s is in state %d, acknowledged was %d", w.volume(i), have, want)
		}
		w.states[i] = have
	}
}

// content tells whether a volume is empty or whole; else it is an error.
func (w *volumeWorker) content(name, dir string) volumeState {
	files, err := os.ReadDir(filepath.Join(dir, "dir"))
	if errors.Is(err, os.ErrNotExist) {
		if top, err := os.ReadDir(dir); err != nil || len(top) > 0 {
			w.r.t.Errorf("volume %s: %v, %v", name, top, err)
		}
		return empty
	}
	if err != nil || len(files) != volumeFiles {
		w.r.t.Errorf("volume %s has %d files of %d: %v", name, len(files), volumeFiles, err)
	}
	for i := range volumeFiles {
		data, err := os.ReadFile(filepath.Join(dir, "dir", fmt.Sprintf("f%d", i)))
		if err != nil || len(data) != 500*i {
			w.r.t.Errorf("volume %s: file %d has %d bytes, want %d: %v", name, i, len(data), 500*i, err)
			return whole
		}
	}
	return whole
}

// Volumes are there or not, filled or not, wherever the daemon is killed; nothing
// stays mounted, and what was removed takes no room.
func TestKilledDaemonKeepsVolumes(t *testing.T) {
	r := newRig(t)
	archive := volumeArchive(t)
	workers := []*volumeWorker{{r: r, name: "one", archive: archive}, {r: r, name: "two", archive: archive}}
	if _, err := exec.LookPath("docker"); err == nil {
		r.must("images", "pull", "--plain-http", r.images.base)
		workers[1].docker = true
	}
	for _, w := range workers {
		w.lookAt() // none is there
	}
	for n := range *rounds {
		rnd := rand.New(rand.NewPCG(*seed, uint64(n)))
		delay := time.Duration(20+rnd.IntN(700)) * time.Millisecond
		r.round(rnd, "daemon", delay, workers[0].once, workers[1].once)
		r.start()
		for _, w := range workers {
			w.lookAt()
		}
		r.noVolumeRests()
		if t.Failed() {
			t.Fatalf("round %d of seed %d: killed after %s", n, *seed, delay)
		}
	}
	r.docker("volume", "prune", "-af")
}

// noVolumeRests looks for what a killed daemon may have left.
func (r *rig) noVolumeRests() {
	r.t.Helper()
	if ids, err := r.docker("ps", "-aq"); err == nil && len(ids) > 0 {
		r.docker(append([]string{"rm", "-f"}, strings.Fields(string(ids))...)...)
	}
	for _, m := range r.mounts() {
		if strings.HasSuffix(m, "/_data") {
			r.t.Errorf("a volume is mounted that nobody uses: %s", m)
		}
	}
	for _, pattern := range []string{"*volume*/.trash/*", "*volume*/*/_fill"} {
		if found, _ := filepath.Glob(filepath.Join(r.root, pattern)); len(found) > 0 {
			r.t.Errorf("left: %v", found)
		}
	}
}
