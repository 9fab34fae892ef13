package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/services/spec"
)

// containerFlags are those of run and of containers create.
type containerFlags struct {
	o client.ContainerOptions

	id, net, memory, shm, seccomp string
	labels, mounts, devices       []string
	with, ulimits, annotations    []string
}

// processFlags are those of run, create and exec.
type processFlags struct {
	env        []string
	cwd, user  string
	tty, stdin bool
	detach     bool
	log        string
}

func (f *containerFlags) register(fs *pflag.FlagSet) {
	s := &f.o.Spec
	fs.StringVar(&f.id, "id", "", "name of the container; default: one at random")
	fs.StringVar(&f.o.Rootfs, "rootfs", "", "run a folder instead of an image, which is not given then")
	fs.StringVar(&f.o.Snapshotter, "snapshotter", os.Getenv("ORLOP_SNAPSHOTTER"), "snapshotter; default: one the image is unpacked in (ORLOP_SNAPSHOTTER)")
	fs.StringVar(&f.o.Runtime, "runtime", os.Getenv("ORLOP_RUNTIME"), "shim, such as io.containerd.runc.v2, or OCI runtime, such as crun (ORLOP_RUNTIME)")
	fs.StringArrayVarP(&f.labels, "label", "l", nil, "label of the container, as KEY=VALUE")
	fs.StringVar(&f.net, "net", "none", "network: none, host, or the path of a network namespace")
	fs.StringArrayVar(&f.mounts, "mount", nil, "mount, as type=bind,src=/a,dst=/b,options=rbind:ro")
	fs.StringArrayVar(&f.with, "with-ns", nil, "namespace to join, as pid:/proc/7/ns/pid or ipc:host")
	fs.StringVarP(&f.memory, "memory", "m", "", "limit of memory, such as 64M")
	fs.Float64Var(&s.Resources.CPUs, "cpus", 0, "number of processors, such as 1.5")
	fs.Uint64Var(&s.Resources.CPUShares, "cpu-shares", 0, "weight of processor time; 1024 is normal")
	fs.StringVar(&s.Resources.CpusetCPUs, "cpuset-cpus", "", "processors to run on, such as 0-3")
	fs.Int64Var(&s.Resources.PidsLimit, "pids-limit", 0, "limit of processes and threads")
	fs.StringVar(&f.shm, "shm-size", "", "size of /dev/shm; default 64M")
	fs.BoolVar(&s.Security.Privileged, "privileged", false, "all capabilities, all devices, no seccomp: no protection of the host")
	fs.StringArrayVar(&s.Security.CapAdd, "cap-add", nil, "capability to add, such as NET_ADMIN, or ALL")
	fs.StringArrayVar(&s.Security.CapDrop, "cap-drop", nil, "capability to take away, or ALL")
	fs.StringVar(&f.seccomp, "seccomp", "", "file with a seccomp profile, or unconfined; default: the default profile")
	fs.StringVar(&s.Security.AppArmor, "apparmor", "", "AppArmor profile that the kernel has loaded")
	fs.BoolVar(&s.Security.NoNewPrivileges, "no-new-privs", false, "set-user-ID programs gain no rights")
	fs.StringArrayVar(&f.devices, "device", nil, "device, as /dev/fuse[:/dev/there][:rwm]")
	fs.BoolVar(&s.ReadonlyRootfs, "read-only", false, "make the root file system read-only")
	fs.StringVar(&s.Hostname, "hostname", "", "host name; default: the container's")
	fs.StringArrayVar(&f.ulimits, "ulimit", nil, "limit, as nofile=1024[:2048]")
	fs.StringArrayVar(&s.ExtraGroups, "group-add", nil, "group the process also belongs to")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "annotation of the OCI spec, as KEY=VALUE")
	fs.StringArrayVar(&s.Entrypoint, "entrypoint", nil, "replaces the image's entrypoint; may be given once for each argument")
	fs.StringVar(&s.CgroupParent, "cgroup-parent", "", "cgroup above the container's")
	fs.BoolVar(&f.o.SystemdCgroup, "systemd-cgroup", false, "have systemd make the cgroup")
	fs.BoolVar(&s.CgroupMount, "cgroup-mount", false, "show the container its cgroup in /sys/fs/cgroup")
}

func (p *processFlags) register(fs *pflag.FlagSet, run bool) {
	fs.StringArrayVarP(&p.env, "env", "e", nil, "environment variable, as KEY=VALUE; KEY alone takes this program's")
	fs.StringVarP(&p.cwd, "cwd", "w", "", "working folder")
	fs.StringVarP(&p.user, "user", "u", "", "user[:group], names or ids")
	fs.BoolVarP(&p.tty, "tty", "t", false, "give the process a terminal")
	if run {
		fs.BoolVarP(&p.stdin, "interactive", "i", false, "pass the standard input on")
		fs.BoolVarP(&p.detach, "detach", "d", false, "don't wait for the process; with -i or -t it can be attached to")
		fs.StringVar(&p.log, "log", "", "URI that takes the output: log:///var/log/x?max-size=10485760&max-file=5, file:///var/log/x or binary:///program")
	}
}

// io connects the process with this program. A detached one with -i or -t can be
// attached to by the container's name.
func (p *processFlags) io(a *app, id string) client.IO {
	o := client.IO{
		Stdin: a.in, Stdout: a.out, Stderr: a.err, Interactive: p.stdin, Terminal: p.tty,
		Log: p.log, Detached: p.detach,
	}
	if p.stdin || p.tty {
		o.Keep = id
	}
	return o
}

func (p *processFlags) variables() []string {
	var out []string
	for _, v := range p.env {
		if !strings.Contains(v, "=") {
			have, ok := os.LookupEnv(v)
			if !ok {
				continue
			}
			v += "=" + have
		}
		out = append(out, v)
	}
	return out
}

// options completes the container's options from flags and arguments.
func (f *containerFlags) options(a *app, p *processFlags, args []string) (client.ContainerOptions, error) {
	o := f.o
	s := &o.Spec
	if o.Rootfs == "" {
		if len(args) == 0 {
			return o, fmt.Errorf("no image is given")
		}
		o.Image, args = args[0], args[1:]
	} else {
		var err error
		if o.Rootfs, err = absolute(o.Rootfs); err != nil {
			return o, err
		}
	}
	o.ID = f.id
	if o.ID == "" {
		o.ID = newID()
	}
	s.ID, s.Args, s.Env, s.Cwd, s.User, s.Terminal = o.ID, args, p.variables(), p.cwd, p.user, p.tty
	if s.Terminal {
		s.Width, s.Height, _ = client.TerminalSize(a.out)
	}
	if !o.SystemdCgroup && s.CgroupParent == "" {
		s.CgroupParent = "/orlop/" + a.namespace
	}
	s.SystemdCgroup = o.SystemdCgroup
	if err := f.namespaces(s); err != nil {
		return o, err
	}
	if s.Hostname == "" && s.UTS != spec.Host {
		s.Hostname = hostname(o.ID)
	}
	return o, f.parse(&o)
}

// hostname cuts an ID to what a host name may be.
func hostname(id string) string {
	if len(id) > 63 {
		return id[:63]
	}
	return id
}

func newID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return "c" + hex.EncodeToString(b[:])
}

// parse reads the flags whose values have a form of their own.
func (f *containerFlags) parse(o *client.ContainerOptions) error {
	s := &o.Spec
	var err error
	if o.Labels, err = newLabels(f.labels); err != nil {
		return err
	}
	if len(f.annotations) > 0 {
		if s.Annotations, err = newLabels(f.annotations); err != nil {
			return err
		}
	}
	for _, text := range f.mounts {
		m, err := spec.ParseMount(text)
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, m)
	}
	for _, text := range f.devices {
		d, err := spec.ParseDevice(text)
		if err != nil {
			return err
		}
		s.Devices = append(s.Devices, d)
	}
	for _, text := range f.ulimits {
		l, err := parseUlimit(text)
		if err != nil {
			return err
		}
		s.Rlimits = append(s.Rlimits, l)
	}
	if s.Resources.Memory, err = parseSize(f.memory); err != nil {
		return err
	}
	if s.ShmSize, err = parseSize(f.shm); err != nil {
		return err
	}
	s.Security.Seccomp = f.seccomp
	if f.seccomp != "" && f.seccomp != "unconfined" {
		data, err := os.ReadFile(f.seccomp)
		if err != nil {
			return fmt.Errorf("seccomp profile: %w", err)
		}
		s.Security.Seccomp = string(data)
	}
	return nil
}

// namespaces reads --net and --with-ns.
func (f *containerFlags) namespaces(s *spec.Options) error {
	switch {
	case f.net == "host":
		s.Network = spec.Host
		s.Mounts = append(s.Mounts, client.HostFiles()...)
	case strings.HasPrefix(f.net, "/"):
		s.Network = spec.Namespace(f.net)
	case f.net != "none":
		return fmt.Errorf("network %q is neither none nor host nor the path of a namespace", f.net)
	}
	targets := map[string]*spec.Namespace{
		"network": &s.Network, "net": &s.Network, "pid": &s.PID, "ipc": &s.IPC, "uts": &s.UTS, "cgroup": &s.Cgroup,
	}
	for _, text := range f.with {
		kind, path, _ := strings.Cut(text, ":")
		if targets[kind] == nil || path == "" {
			return fmt.Errorf("namespace %q is not of the form kind:path, with kind of network, pid, ipc, uts, cgroup", text)
		}
		*targets[kind] = spec.Namespace(path)
	}
	return nil
}

// parseSize reads bytes with an optional unit of 1024: 512, 64k, 1.5G.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(text), "b"), "i")
	unit := int64(1)
	if i := strings.IndexByte("kmgt", number[max(0, len(number)-1):][0]); len(number) > 0 && i >= 0 {
		unit, number = 1<<(10*(i+1)), number[:len(number)-1]
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v < 0 || v*float64(unit) > 1<<62 {
		return 0, fmt.Errorf("size %q is no number of bytes, such as 64M", text)
	}
	return int64(v * float64(unit)), nil
}

// parseUlimit reads name=soft[:hard].
func parseUlimit(text string) (specs.POSIXRlimit, error) {
	name, values, _ := strings.Cut(text, "=")
	low, high, two := strings.Cut(values, ":")
	if !two {
		high = low
	}
	soft, err1 := parseLimit(low)
	hard, err2 := parseLimit(high)
	if err1 != nil || err2 != nil || name == "" {
		return specs.POSIXRlimit{}, fmt.Errorf("limit %q is not of the form nofile=1024[:2048]", text)
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: soft, Hard: hard}, nil
}

func parseLimit(text string) (uint64, error) {
	if text == "unlimited" || text == "-1" {
		return ^uint64(0), nil
	}
	return strconv.ParseUint(text, 10, 64)
}

func (a *app) createCommand() *cobra.Command {
	var f containerFlags
	var p processFlags
	cmd := a.command("create [flags] IMAGE [COMMAND [ARG...]]", "Make a container without starting it",
		"  orlopctl containers create --id web nginx\n  orlopctl tasks start web", 0, -1, nil)
	f.register(cmd.Flags())
	p.register(cmd.Flags(), false)
	cmd.Flags().SetInterspersed(false)
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		o, err := f.options(a, &p, args)
		if err != nil {
			return err
		}
		made, err := c.CreateContainer(ctx, o)
		if err != nil {
			return err
		}
		return a.done(made.ID)
	})
	return cmd
}

func (a *app) runCommand() *cobra.Command {
	var f containerFlags
	var p processFlags
	cmd := a.command("run [flags] IMAGE [COMMAND [ARG...]]", "Create and start a container",
		`  orlopctl run --rm busybox echo hello
  orlopctl run -it --rm --net host --memory 64M busybox
  orlopctl run -d --id web --log file:///var/log/web.log nginx`, 0, -1, nil)
	cmd.Long = "Run makes a container and its task. The exit code is the process's own; 127 if there is no such command,\n126 if it can't be executed, 125 if anything else went wrong."
	f.register(cmd.Flags())
	p.register(cmd.Flags(), true)
	rm := cmd.Flags().Bool("rm", false, "remove the container when it has ended")
	cmd.Flags().SetInterspersed(false)
	a.process(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		o, err := f.options(a, &p, args)
		if err != nil {
			return err
		}
		if *rm && (p.detach || p.log != "") {
			return fmt.Errorf("--rm needs somebody who waits; it goes with neither --detach nor --log")
		}
		o.Passing = *rm
		return a.run(ctx, c, o, p.io(a, o.ID), *rm)
	})
	return cmd
}

// process gives a command that runs a process its work; errors before the
// process has run have exit code 125.
func (a *app) process(cmd *cobra.Command, do action) {
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, list []string) error { a.code = client.CodeError; return args(cmd, list) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { a.code = client.CodeError; return err })
	a.work(cmd, func(ctx context.Context, c *client.Client, list []string) error {
		a.code = client.CodeError
		return do(ctx, c, list)
	})
}

func (a *app) run(ctx context.Context, c *client.Client, o client.ContainerOptions, streams client.IO, rm bool) error {
	made, err := c.CreateContainer(ctx, o)
	if err != nil {
		return err
	}
	p, err := c.StartTask(ctx, made.ID, made.Mounts, streams)
	if err != nil {
		if undo := c.Discard(ctx, made); undo != nil {
			fmt.Fprintln(a.err, "orlopctl: remove container: "+a.explain(undo))
		}
		return err
	}
	if streams.Detached || streams.Log != "" {
		a.code = 0
		return a.done(made.ID)
	}
	code, err := p.Attach(ctx)
	if err != nil {
		return err
	}
	a.code = code
	if err := p.Delete(ctx); err != nil {
		return err
	}
	if rm {
		return c.Discard(ctx, made)
	}
	return nil
}
