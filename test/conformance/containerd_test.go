// Package conformance runs suites that live in modules of their own, so that
// what they are made of stays away from Orlop.
package conformance

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// minPassed is how many subtests of containerd's suites must have run at least:
// 28 of the content store, and 21 of each of the snapshotters overlayfs and
// native. EROFS and btrfs add as many where the kernel has them. A suite that
// shrinks silently must not count as passed.
const minPassed = 28 + 2*21

// TestContainerd runs containerd's published suites against a real orlopd. There
// are no exceptions: all of it passes.
func TestContainerd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout=5m", "./...")
	cmd.Dir = "containerd"
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	passed := map[string]int{}
	output := map[string][]string{}
	var failed []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			t.Log(lines.Text()) // the module doesn't build
			continue
		}
		top, sub, _ := strings.Cut(e.Test, "/")
		switch {
		case e.Action == "output":
			output[e.Test] = append(output[e.Test], e.Output)
		case e.Action == "fail":
			failed = append(failed, e.Test)
		case e.Action == "skip":
			t.Logf("skipped: %s", strings.Join(output[e.Test], ""))
		case e.Action == "pass" && sub != "" && sub != "suite":
			passed[top]++
		}
	}
	err = cmd.Wait()
	total := 0
	for top, n := range passed {
		total += n
		t.Logf("%s: %d passed", top, n)
	}
	slices.Sort(failed)
	for _, name := range failed {
		t.Errorf("failed: %s\n%s", name, strings.Join(output[name], ""))
	}
	if err != nil && len(failed) == 0 {
		t.Errorf("go test: %v", err)
	}
	if total < minPassed {
		t.Errorf("only %d tests passed, want %d", total, minPassed)
	}
}
