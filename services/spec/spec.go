// Package spec makes OCI runtime specs: from an image's config and the caller's
// [Options], [Generate] makes the config.json of a container.
//
// It is pure, except that it stats the devices asked for and reads the kernel's
// last capability once. [Options.Rootfs] is only read, and only for the files
// /etc/passwd and /etc/group; it is hostile input. The seccomp profile is
// computed once per set of capabilities and shared by all specs, so nobody may
// change a spec's Linux.Seccomp in place. All functions are safe for concurrent
// use. Nothing is left behind by a crash.
package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is the PATH of images that set none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Options say what a container shall be. The zero value, with an image that has
// a command, is a plain unprivileged container with namespaces of its own.
type Options struct {
	// ID of the container; it names the cgroup. Needed unless CgroupsPath is
	// set.
	ID string
	// Image is the image's config; its zero value is an image without one.
	Image imagespec.ImageConfig

	// Entrypoint replaces the image's entrypoint, and drops its command, if not
	// nil.
	Entrypoint []string
	// Args replace the image's command if not empty.
	Args []string
	// Env is added to the image's variables, as KEY=value; a KEY alone removes
	// the image's variable of that name.
	Env []string
	// Cwd replaces the image's working folder if not empty.
	Cwd string
	// User replaces the image's user if not empty: user[:group], names or ids.
	User string
	// ExtraGroups are names or ids of groups the process also belongs to.
	ExtraGroups []string
	// Rootfs is the container's root file system, in which names of users and
	// groups are looked up. Without it only ids can be used. Symlinks must not
	// lead out of it: os.Root's FS is right, os.DirFS is not.
	Rootfs fs.FS
	// Terminal gives the process a terminal, of Width by Height if not 0.
	Terminal      bool
	Width, Height uint

	// RootPath is the root file system's folder, "rootfs" if empty: relative to
	// the bundle.
	RootPath string
	// ReadonlyRootfs makes the root file system read-only.
	ReadonlyRootfs bool
	// Mounts are added to the default ones; one with the same destination
	// replaces it.
	Mounts []specs.Mount
	// CgroupMount mounts the cgroup file system, read-only, at /sys/fs/cgroup.
	CgroupMount bool
	// ShmSize bounds /dev/shm in bytes; 0 is 64 MiB.
	ShmSize int64

	// Hostname and Domainname are set in a UTS namespace of its own.
	Hostname, Domainname string
	// Network, PID, IPC, UTS and Cgroup choose the namespaces.
	Network, PID, IPC, UTS, Cgroup Namespace
	// Sysctls are set in the container's namespaces.
	Sysctls map[string]string

	// Security is what the process may do.
	Security Security
	// Devices of the host that the container gets.
	Devices []Device
	// Resources bound what it uses.
	Resources Resources
	// Rlimits of the process.
	Rlimits []specs.POSIXRlimit
	// OOMScoreAdj of the process, nil to inherit.
	OOMScoreAdj *int

	// CgroupsPath is the spec's cgroupsPath as it is. If empty, it is made of
	// CgroupParent and ID.
	CgroupsPath string
	// CgroupParent is the cgroup above the container's: a path, or a slice's
	// name with SystemdCgroup. Empty is "/orlop", or "system.slice".
	CgroupParent string
	// SystemdCgroup writes cgroupsPath in systemd's form slice:prefix:name.
	SystemdCgroup bool

	// Annotations of the spec.
	Annotations map[string]string
}

// Namespace chooses one of a container's namespaces: "" is one of its own,
// [Host] is the host's, an absolute path is the namespace at that file.
type Namespace string

// Host is the host's namespace.
const Host Namespace = "host"

// Security is what a container's process may do.
type Security struct {
	// Privileged gives all capabilities, all devices, writable /sys and no
	// masks, no seccomp and no AppArmor.
	Privileged bool
	// CapAdd and CapDrop change the default capabilities, by name with or
	// without CAP_, "ALL" for all.
	CapAdd, CapDrop []string
	// Seccomp is "" for the default profile, "unconfined" for none, or a
	// profile in Docker's JSON form.
	Seccomp string
	// NoNewPrivileges keeps set-user-ID programs from gaining rights.
	NoNewPrivileges bool
	// AppArmor is the name of a profile that the kernel has loaded.
	AppArmor string
	// SelinuxLabel and MountLabel are SELinux contexts.
	SelinuxLabel, MountLabel string
	// WritableCgroups lets the container change what is below its control groups.
	WritableCgroups bool
	// Unmasked leaves out the masked and the read-only paths.
	Unmasked bool
}

// Generate makes the spec. Its error joins all that is wrong with the options.
func Generate(o Options) (*specs.Spec, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	process, err := o.process()
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Process:     process,
		Root:        &specs.Root{Path: o.RootPath, Readonly: o.ReadonlyRootfs},
		Mounts:      o.mounts(),
		Hostname:    o.Hostname,
		Domainname:  o.Domainname,
		Annotations: o.Annotations,
		Linux: &specs.Linux{
			Namespaces:  o.namespaces(),
			CgroupsPath: o.cgroupsPath(),
			Resources:   o.Resources.spec(),
			Sysctl:      o.Sysctls,
			MountLabel:  o.Security.MountLabel,
		},
	}
	if s.Root.Path == "" {
		s.Root.Path = "rootfs"
	}
	if err := o.devices(s.Linux); err != nil {
		return nil, err
	}
	if !o.Security.Privileged && !o.Security.Unmasked {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
	}
	s.Linux.RootfsPropagation = rootPropagation(o.Mounts)
	if s.Linux.Seccomp, err = o.Security.seccomp(s); err != nil {
		return nil, err
	}
	return s, nil
}

// process makes the spec's process.
func (o *Options) process() (*specs.Process, error) {
	user, err := o.user()
	if err != nil {
		return nil, err
	}
	caps, err := o.Security.capabilities()
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal:        o.Terminal,
		User:            user,
		Args:            o.args(),
		Env:             o.env(),
		Cwd:             o.cwd(),
		Capabilities:    caps,
		Rlimits:         o.Rlimits,
		NoNewPrivileges: o.Security.NoNewPrivileges,
		OOMScoreAdj:     o.OOMScoreAdj,
		SelinuxLabel:    o.Security.SelinuxLabel,
	}
	if !o.Security.Privileged {
		p.ApparmorProfile = o.Security.AppArmor
	}
	if o.Terminal && o.Width > 0 && o.Height > 0 {
		p.ConsoleSize = &specs.Box{Width: o.Width, Height: o.Height}
	}
	return p, nil
}

// args is the entrypoint followed by the command.
func (o *Options) args() []string {
	entry, cmd := o.Image.Entrypoint, o.Image.Cmd
	if o.Entrypoint != nil {
		entry, cmd = o.Entrypoint, nil
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	return append(slices.Clone(entry), cmd...)
}

// env is the image's variables under the caller's, with a PATH.
func (o *Options) env() []string {
	var env []string
	at := map[string]int{}
	set := func(v string) {
		key, _, ok := strings.Cut(v, "=")
		i, have := at[key]
		switch {
		case !ok && have:
			env[i] = ""
			delete(at, key)
		case !ok:
		case have:
			env[i] = v
		default:
			at[key] = len(env)
			env = append(env, v)
		}
	}
	set("PATH=" + DefaultPath)
	if o.Terminal {
		set("TERM=xterm")
	}
	for _, v := range o.Image.Env {
		set(v)
	}
	for _, v := range o.Env {
		set(v)
	}
	return slices.DeleteFunc(env, func(v string) bool { return v == "" })
}

func (o *Options) cwd() string {
	for _, dir := range []string{o.Cwd, o.Image.WorkingDir} {
		if dir != "" {
			return path.Clean("/" + dir)
		}
	}
	return "/"
}

// cgroupsPath names the container's cgroup in the form of the driver.
func (o *Options) cgroupsPath() string {
	parent := o.CgroupParent
	switch {
	case o.CgroupsPath != "":
		return o.CgroupsPath
	case o.SystemdCgroup && parent == "":
		return "system.slice:orlop:" + o.ID
	case o.SystemdCgroup:
		return parent + ":orlop:" + o.ID
	case parent == "":
		parent = "/orlop"
	}
	return path.Join("/", parent, o.ID)
}

// validate checks what can be checked without I/O, all at once.
func (o *Options) validate() error {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(o.args()) == 0 || o.args()[0] == "", "no command: neither the image nor the caller names one")
	check(o.Cwd != "" && !path.IsAbs(o.Cwd), "working folder %q is no absolute path", o.Cwd)
	for _, v := range append(slices.Clone(o.Image.Env), o.Env...) {
		key, _, _ := strings.Cut(v, "=")
		check(key == "" || strings.ContainsRune(v, 0), "invalid environment variable: %s", v)
	}
	for _, a := range o.args() {
		check(strings.ContainsRune(a, 0), "argument %q has a zero byte", a)
	}
	for _, ns := range []struct {
		name  string
		value Namespace
	}{{"network", o.Network}, {"pid", o.PID}, {"ipc", o.IPC}, {"uts", o.UTS}, {"cgroup", o.Cgroup}} {
		ok := ns.value == "" || ns.value == Host || path.IsAbs(string(ns.value))
		check(!ok, "%s namespace %q is neither %q nor an absolute path", ns.name, ns.value, Host)
	}
	check(o.Hostname != "" && o.UTS == Host, "hostname %q can't be set in the host's UTS namespace", o.Hostname)
	check(len(o.Hostname) > 64, "hostname is longer than 64 bytes")
	for _, m := range o.Mounts {
		check(!path.IsAbs(m.Destination), "mount destination %q is no absolute path", m.Destination)
	}
	check(o.CgroupsPath == "" && o.ID == "", "neither an ID nor a cgroup path")
	check(o.SystemdCgroup && o.CgroupParent != "" && !strings.HasSuffix(o.CgroupParent, ".slice"),
		"cgroup parent %q is no slice, which the systemd driver needs", o.CgroupParent)
	check(o.CgroupParent != "" && slices.Contains(strings.Split(o.CgroupParent, "/"), ".."),
		"cgroup parent %q leads upwards", o.CgroupParent)
	check(o.OOMScoreAdj != nil && (*o.OOMScoreAdj < -1000 || *o.OOMScoreAdj > 1000), "oom score is not between -1000 and 1000")
	check(o.ShmSize < 0, "SHM size can not be less than 0")
	errs = append(errs, o.Resources.validate(), validateRlimits(o.Rlimits))
	return errors.Join(errs...)
}

func validateRlimits(limits []specs.POSIXRlimit) error {
	var errs []error
	for i, l := range limits {
		if l.Soft > l.Hard {
			errs = append(errs, fmt.Errorf("rlimit %s: soft limit %d is above the hard one, %d", l.Type, l.Soft, l.Hard))
		}
		if slices.ContainsFunc(limits[:i], func(m specs.POSIXRlimit) bool { return m.Type == l.Type }) {
			errs = append(errs, fmt.Errorf("rlimit %s is given twice", l.Type))
		}
	}
	return errors.Join(errs...)
}
