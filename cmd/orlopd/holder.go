package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/safefile"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/network/rtnl"
)

// Files of a rootless daemon in its state folder.
const (
	holderFile   = "rootless.json"
	resolverFile = "resolv.conf"
	networkLog   = "network.log"
)

// holder is the process that holds a user's namespaces.
type holder struct {
	path string
	// PID and Start, its time in clock ticks after the machine's, tell which it is.
	PID   int    `json:"pid"`
	Start string `json:"start"`
	// Network is the process that carries packets out, 0 if there is none.
	Network      int    `json:"network,omitempty"`
	NetworkStart string `json:"network_start,omitempty"`
}

// openHolder finds the namespaces of an earlier daemon, or makes them.
func openHolder(state string) (*holder, error) {
	h := &holder{path: filepath.Join(state, holderFile)}
	data, err := os.ReadFile(h.path)
	if err == nil {
		err = json.Unmarshal(data, h)
	}
	if err == nil && h.Start != "" && startOf(h.PID) == h.Start {
		if h.Network == 0 || startOf(h.Network) != h.NetworkStart {
			h.connect(state)
		}
		return h, h.save()
	}
	*h = holder{path: h.path}
	if err := h.make(); err != nil {
		return nil, err
	}
	h.connect(state)
	return h, h.save()
}

func (h *holder) save() error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return safefile.Replace(h.path, data, 0o600)
}

// make starts the process in new namespaces and maps the user's ids.
func (h *holder) make() error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	maps, err := userns.Granted(me.Username, me.Username)
	if err != nil {
		return fmt.Errorf("rootless: %w", err)
	}
	for _, program := range []string{"newuidmap", "newgidmap", "nsenter", "sleep"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("rootless: the program %s is missing (Debian's packages uidmap, util-linux, coreutils): %w", program, err)
		}
	}
	cmd := exec.Command("sleep", "infinity")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("rootless: this kernel or its settings give users no namespaces: %w", err)
	}
	h.PID = cmd.Process.Pid
	h.Start = startOf(h.PID)
	go func() { _ = cmd.Wait() }()
	for _, m := range []struct {
		program string
		own     int
		ranges  string
	}{{"newuidmap", os.Getuid(), ranges(maps, false)}, {"newgidmap", os.Getgid(), ranges(maps, true)}} {
		args := append([]string{strconv.Itoa(h.PID), "0", strconv.Itoa(m.own), "1"}, strings.Fields(m.ranges)...)
		if out, err := exec.Command(m.program, args...).CombinedOutput(); err != nil {
			_ = cmd.Process.Kill()
			return fmt.Errorf("rootless: %s: %w: %s", m.program, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// ranges are the ids after the user's own, as newuidmap takes them.
func ranges(m *userns.Maps, groups bool) string {
	list := m.UIDs
	if groups {
		list = m.GIDs
	}
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintf(&b, "%d %d %d ", r.ContainerID+1, r.HostID, r.Size)
	}
	return b.String()
}

// connect starts what carries packets between the namespaces and the outside. Without
// it containers reach each other and are reached, but reach nothing outside.
func (h *holder) connect(state string) {
	out, err := os.OpenFile(filepath.Join(state, networkLog), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		log.L.WithError(err).Warn("containers reach nothing outside")
		return
	}
	defer out.Close()
	if _, lerr := exec.LookPath("slirp4netns"); lerr == nil {
		err = h.slirp(state, out)
	} else if _, lerr := exec.LookPath("pasta"); lerr == nil {
		err = h.pasta(state, out)
	} else {
		err = errors.New("neither slirp4netns nor pasta is there (Debian's packages slirp4netns, passt)")
	}
	if err != nil {
		text, _ := os.ReadFile(out.Name())
		log.L.WithError(err).Warnf("containers reach nothing outside: %s", bytes.TrimSpace(text[:min(len(text), 1000)]))
		return
	}
	h.NetworkStart = startOf(h.Network)
}

// networkWait bounds how long a network program may take.
const networkWait = 10 * time.Second

// slirp starts slirp4netns, which resolves names itself at 10.0.2.3.
func (h *holder) slirp(state string, out io.Writer) error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command("slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=3", strconv.Itoa(h.PID), "tap0")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	if err := ready.SetReadDeadline(time.Now().Add(networkWait)); err != nil {
		return err
	}
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		_ = cmd.Process.Kill()
		return fmt.Errorf("slirp4netns does not start: %w", err)
	}
	h.Network = cmd.Process.Pid
	return safefile.Replace(filepath.Join(state, resolverFile), []byte("nameserver 10.0.2.3\n"), 0o644)
}

// pasta starts pasta, which goes to the background when all is set up. It gives the
// namespaces the host's address, and the host's resolvers are reached as they are.
func (h *holder) pasta(state string, out io.Writer) error {
	pidFile := filepath.Join(state, "pasta.pid")
	cmd := exec.Command("pasta", "--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "-P", pidFile, strconv.Itoa(h.PID))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pasta: %w", err)
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	h.Network, err = strconv.Atoi(strings.TrimSpace(string(data)))
	return err
}

// Waits for shims that hold nothing any more: they try for two seconds to tell the
// daemon, which has ended, how the last containers did.
const (
	shimWait  = 5 * time.Second
	shimPause = 50 * time.Millisecond
)

// releaseUnused lets the namespaces go if no container is in them.
func (h *holder) releaseUnused() {
	if startOf(h.PID) != h.Start {
		return
	}
	for end := time.Now().Add(shimWait); ; time.Sleep(shimPause) {
		shims, others := h.inside()
		if others || shims && time.Now().After(end) {
			return
		}
		if !shims {
			break
		}
	}
	if h.Network != 0 && startOf(h.Network) == h.NetworkStart {
		_ = unix.Kill(h.Network, unix.SIGTERM)
	}
	_ = unix.Kill(h.PID, unix.SIGKILL)
	_ = os.Remove(h.path)
}

// inside tells which processes are in the namespaces besides those that hold them.
// Where there are others than shims, containers run.
func (h *holder) inside() (shims, others bool) {
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", h.PID))
	if err != nil {
		return false, true
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/user")
	if err != nil {
		return false, true
	}
	for _, path := range all {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if theirs, err := os.Readlink(path); err != nil || theirs != mine || pid == h.PID || pid == h.Network {
			continue
		}
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && filepath.Base(program) != "containerd-shim-orlop-v1" {
			return shims, true
		}
		shims = shims || err == nil
	}
	return shims, false
}

// startOf is when a process was started, "" if there is none: field 22 of proc(5)'s
// stat, which with its number names it for good.
func startOf(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || pid <= 0 {
		return ""
	}
	_, rest, _ := bytes.Cut(data, []byte(") "))
	f := strings.Fields(string(rest))
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}

// upLoopback brings the loopback of this network namespace up.
func upLoopback() error {
	rt, err := rtnl.Open(nil)
	if err != nil {
		return err
	}
	return errors.Join(rt.Do(rtnl.SetLink(rtnl.Link{Index: 1, Name: "lo", Up: true})), rt.Close())
}
