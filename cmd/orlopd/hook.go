package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxState bounds the state that a runtime writes to a hook, in bytes.
const maxState = 1 << 20

// ociHook runs a program in its own place, as a hook of an OCI runtime: the
// runtime's state is read from standard input and fills in what the program's
// arguments leave open.
func (p *program) ociHook(args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("oci-hook needs a program")
	}
	h, err := readHook(p.stdin)
	if err != nil {
		return fmt.Errorf("oci-hook: %w", err)
	}
	filled := make([]string, len(args))
	for i, arg := range args {
		if filled[i], err = h.fill(arg); err != nil {
			return fmt.Errorf("oci-hook: %w", err)
		}
	}
	path, err := exec.LookPath(filled[0])
	if err != nil {
		return fmt.Errorf("oci-hook: %w", err)
	}
	return fmt.Errorf("oci-hook: %s: %w", path, syscall.Exec(path, filled, os.Environ()))
}

// hook is what is known of the container.
type hook struct {
	state specs.State
	spec  specs.Spec
}

func readHook(r io.Reader) (*hook, error) {
	h := &hook{}
	if err := json.NewDecoder(io.LimitReader(r, maxState)).Decode(&h.state); err != nil {
		return nil, fmt.Errorf("standard input is no state of an OCI runtime: %w", err)
	}
	if h.state.Bundle == "" {
		return nil, errors.New("the state on standard input names no bundle")
	}
	data, err := os.ReadFile(filepath.Join(h.state.Bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &h.spec); err != nil {
		return nil, fmt.Errorf("config.json of bundle %s: %w", h.state.Bundle, err)
	}
	return h, nil
}

// gap is a part of an argument to fill in: a word, and maybe a quoted key.
var gap = regexp.MustCompile(`\{\{\s*([a-z]+)(?:\s+"([^"]*)")?\s*\}\}`)

func (h *hook) fill(arg string) (string, error) {
	var wrong error
	out := gap.ReplaceAllStringFunc(arg, func(text string) string {
		m := gap.FindStringSubmatch(text)
		value, err := h.value(m[1], m[2])
		wrong = errors.Join(wrong, err)
		return value
	})
	return out, wrong
}

func (h *hook) value(word, key string) (string, error) {
	switch word {
	case "id":
		return h.state.ID, nil
	case "pid":
		return strconv.Itoa(h.state.Pid), nil
	case "bundle":
		return h.state.Bundle, nil
	case "rootfs":
		if h.spec.Root == nil {
			return "", errors.New("the container has no rootfs")
		}
		if filepath.IsAbs(h.spec.Root.Path) {
			return h.spec.Root.Path, nil
		}
		return filepath.Join(h.state.Bundle, h.spec.Root.Path), nil
	case "annotation":
		return h.spec.Annotations[key], nil
	case "env":
		return h.env(key), nil
	}
	return "", fmt.Errorf("{{%s}} is none of id, pid, rootfs, bundle, annotation and env", word)
}

func (h *hook) env(key string) string {
	if h.spec.Process == nil {
		return ""
	}
	for _, e := range h.spec.Process.Env {
		if k, v, ok := strings.Cut(e, "="); ok && k == key {
			return v
		}
	}
	return ""
}
