package build

import (
	"strings"
	"testing"
)

// excerpt wants each client of the protocol to show where a build went wrong.
func excerpt(t *testing.T, r *rig, _ string) {
	r.write("wrong/Dockerfile", "FROM box\n\nRUN exit 3\n")
	for name, args := range map[string][]string{
		"buildx":   {"docker", "buildx", "build", "--progress", "plain", r.path("wrong")},
		"buildctl": {r.buildctl, "build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + r.path("wrong"), "--local", "dockerfile=" + r.path("wrong")},
		"orlop":    {r.bin + "/orlop", "build", r.path("wrong")},
	} {
		if out, err := r.try(args[0], args[1:]...); err == nil || !strings.Contains(out, "3 | >>> RUN exit 3") || !strings.Contains(out, "exit code: 3") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	r.write("careless/Dockerfile", "FROM box\nWORKDIR a\n")
	if out, err := r.try(r.bin+"/orlop", "build", "--check", r.path("careless")); err == nil || !strings.Contains(out, "WorkdirRelativePath") || !strings.Contains(out, "warnings found: 1") {
		t.Errorf("check: %v\n%s", err, out)
	}
	if out, err := r.try(r.bin+"/orlop", "build", "--check", r.path("wrong")); err != nil || !strings.Contains(out, "no warnings found") {
		t.Errorf("check: %v\n%s", err, out)
	}
}
