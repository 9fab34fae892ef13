package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// answer is a program for another architecture, which tells what that is.
const answer = `package main

import (
	"os"
	"runtime"
)

func main() {
	if err := os.WriteFile("/ran", []byte(runtime.GOARCH), 0o644); err != nil {
		panic(err)
	}
}
`

// TestForeign runs steps of another architecture by QEMU.
func TestForeign(t *testing.T) {
	t.Parallel()
	if err := emulate(t); err != nil {
		t.Skip("needs QEMU for arm64 and a kernel with binfmt_misc:", err)
	}
	r := newRig(t, "")
	r.write("foreign/main.go", answer)
	cmd := exec.Command("go", "build", "-o", r.path("foreign", "answer"), r.path("foreign", "main.go"))
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.write("foreign/Dockerfile", "FROM scratch\nCOPY answer /\nRUN [\"/answer\"]\n")
	for name, args := range map[string][]string{"buildx": {"docker", "buildx", "build"}, "orlop": {r.bin + "/orlop", "build"}} {
		r.run(args[0], append(args[1:], "--platform", "linux/arm64", "-t", "foreign:"+name, r.path("foreign"))...)
		dest := r.path(name + ".tar")
		r.docker("save", "-o", dest, "foreign:"+name)
		images, err := readImages(dest)
		if err != nil || len(images) != 1 || images[0].platform != "linux/arm64" {
			t.Fatalf("%s: %v %v", name, images, err)
		}
		if err := images[0].check("file /ran arm64"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// emulate has the kernel run programs for arm64 by QEMU, until the test's end; a machine
// where it does that anyway is left alone.
func emulate(t *testing.T) error {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		return err
	}
	dir := t.TempDir()
	if err := syscall.Mount("binfmt_misc", dir, "binfmt_misc", 0, ""); err != nil {
		return err
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	known, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range known {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "aarch64") {
			return nil
		}
	}
	const name = "orlop-test-aarch64"
	rule := ":" + name + `:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:` +
		`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:` + qemu + ":F"
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "register"), []byte(rule), 0)); err != nil {
		return err
	}
	t.Cleanup(func() { os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0) })
	return nil
}
