package option

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// maxSeccompProfile bounds a profile that is sent, in bytes.
const maxSeccompProfile = 1 << 20

// Build makes the request from the flags, the image, and the command with its
// arguments.
func (c *Container) Build(image string, command []string) (client.ContainerCreateOptions, error) {
	var out client.ContainerCreateOptions
	config, err := c.config(image, command)
	if err != nil {
		return out, err
	}
	host, err := c.host()
	if err != nil {
		return out, err
	}
	if err := c.storage.apply(config, host); err != nil {
		return out, err
	}
	if config.ExposedPorts, host.PortBindings, err = c.network.ports(); err != nil {
		return out, err
	}
	out.Config, out.HostConfig = config, host
	out.NetworkingConfig, err = c.network.endpoints(host)
	return out, err
}

func (c *Container) config(image string, command []string) (*container.Config, error) {
	p := &c.process
	env, err := opts.ReadKVEnvStrings(p.envFiles.GetSlice(), p.env.GetSlice())
	if err != nil {
		return nil, err
	}
	labels, err := opts.ReadKVStrings(c.labelFiles.GetSlice(), c.labels.GetSlice())
	if err != nil {
		return nil, err
	}
	out := &container.Config{
		Image: image, Cmd: command, Env: env, Labels: opts.ConvertKVStringsToMap(labels),
		Hostname: p.hostname, Domainname: p.domainname, User: p.user, WorkingDir: p.workdir,
		Tty: p.tty, OpenStdin: p.stdin, StopSignal: p.stopSignal,
	}
	if p.flagged(c.flags, "stop-timeout") {
		out.StopTimeout = &p.stopTimeout
	}
	if p.entrypoint != "" {
		out.Entrypoint = []string{p.entrypoint}
	} else if p.flagged(c.flags, "entrypoint") {
		out.Entrypoint = []string{""} // takes the image's away
	}
	p.streams(out)
	out.Healthcheck, err = c.health.config()
	return out, err
}

func (p *process) flagged(flags *pflag.FlagSet, name string) bool { return flags.Changed(name) }

// streams says what is attached: what was asked for, or else output, and input if it
// is kept open.
func (p *process) streams(out *container.Config) {
	asked := p.attach.GetSlice()
	for _, a := range asked {
		switch a {
		case "stdin":
			out.AttachStdin = true
		case "stdout":
			out.AttachStdout = true
		case "stderr":
			out.AttachStderr = true
		}
	}
	if len(asked) == 0 {
		out.AttachStdout, out.AttachStderr, out.AttachStdin = true, true, p.stdin
	}
	out.StdinOnce = out.OpenStdin && out.AttachStdin
}

// Detach undoes what only makes sense for who stays.
func Detach(config *container.Config) {
	config.AttachStdin, config.AttachStdout, config.AttachStderr, config.StdinOnce = false, false, false, false
}

// Attached tells that --attach was given.
func (c *Container) Attached() bool { return c.process.attach.Len() > 0 }

func attachable(value string) (string, error) {
	switch v := strings.ToLower(value); v {
	case "stdin", "stdout", "stderr":
		return v, nil
	}
	return "", errors.New("valid streams are STDIN, STDOUT and STDERR")
}

func (h *health) config() (*container.HealthConfig, error) {
	interval, timeout, start, repeat := duration(&h.interval), duration(&h.timeout), duration(&h.start), duration(&h.startRepeat)
	asked := h.command != "" || interval != 0 || timeout != 0 || start != 0 || repeat != 0 || h.retries != 0
	if h.none {
		if asked {
			return nil, errors.New("--no-healthcheck conflicts with --health-* options")
		}
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	if !asked {
		return nil, nil
	}
	for name, d := range map[string]time.Duration{"interval": interval, "timeout": timeout, "start-period": start, "start-interval": repeat} {
		if d < 0 {
			return nil, fmt.Errorf("--health-%s cannot be negative", name)
		}
	}
	if h.retries < 0 {
		return nil, errors.New("--health-retries cannot be negative")
	}
	out := &container.HealthConfig{Interval: interval, Timeout: timeout, StartPeriod: start, StartInterval: repeat, Retries: h.retries}
	if h.command != "" {
		out.Test = []string{"CMD-SHELL", h.command}
	}
	return out, nil
}

func duration(o *opts.DurationOpt) time.Duration {
	if v := o.Value(); v != nil {
		return *v
	}
	return 0
}

func (c *Container) host() (*container.HostConfig, error) {
	restart, err := opts.ParseRestartPolicy(c.restart)
	if err != nil {
		return nil, err
	}
	if c.AutoRemove && !restart.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	p, s, n := &c.process, &c.security, &c.network
	out := &container.HostConfig{
		AutoRemove: c.AutoRemove, ContainerIDFile: c.CIDFile, RestartPolicy: restart, Runtime: c.runtime, Isolation: container.Isolation(c.isolation),
		LogConfig:   container.LogConfig{Type: c.logDriver, Config: opts.ConvertKVStringsToMap(c.logOpts.GetSlice())},
		Annotations: c.annotation.GetAll(), Resources: c.limits.Resources(),
		GroupAdd: p.groups.GetSlice(), PidMode: container.PidMode(p.pid), UTSMode: container.UTSMode(p.uts), IpcMode: container.IpcMode(p.ipc),
		CgroupnsMode: container.CgroupnsMode(p.cgroup), UsernsMode: container.UsernsMode(p.userns), OomScoreAdj: p.oomScore, Sysctls: p.sysctls.GetAll(),
		CapAdd: s.capAdd.GetSlice(), CapDrop: s.capDrop.GetSlice(), Privileged: s.privileged,
		NetworkMode: container.NetworkMode(n.mode.NetworkMode()), PublishAllPorts: n.publishAll,
		DNSOptions: n.dnsOptions.GetSlice(), DNSSearch: n.dnsSearch.GetSlice(), ExtraHosts: n.hosts.GetSlice(), Links: n.links.GetSlice(),
		ReadonlyRootfs: c.storage.readOnly, ShmSize: c.storage.shm.Value(), VolumeDriver: c.storage.driver, VolumesFrom: c.storage.from.GetSlice(),
	}
	if len(out.LogConfig.Config) > 0 && c.logDriver == "none" {
		return nil, errors.New("log options make no sense with the log driver none")
	}
	if out.DNS, err = addresses(n.dns.GetSlice()); err != nil {
		return nil, err
	}
	out.CgroupParent, out.Ulimits = p.cgroupParent, p.ulimits.GetList()
	if p.umask != "" {
		mask, err := strconv.ParseUint(p.umask, 8, 9)
		if err != nil {
			return nil, fmt.Errorf("invalid umask %q: it is an octal number up to 0777", p.umask)
		}
		short := uint32(mask)
		out.Umask = &short
	}
	if c.flags.Changed("init") {
		out.Init = &c.initFlag
	}
	if out.SecurityOpt, out.MaskedPaths, out.ReadonlyPaths, err = s.read(); err != nil {
		return nil, err
	}
	return out, s.addDevices(out)
}

// read completes security options: profiles that are files are sent along.
func (s *security) read() (out, masked, readonly []string, err error) {
	for _, text := range s.options.GetSlice() {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			key, value, ok = strings.Cut(text, ":")
		}
		switch {
		case !ok && key != "no-new-privileges":
			return nil, nil, nil, fmt.Errorf("invalid --security-opt: %q", text)
		case key == "systempaths" && value == "unconfined":
			masked, readonly = []string{}, []string{}
			continue
		case key == "seccomp" && value != "unconfined" && value != "builtin":
			if text, err = profile(value); err != nil {
				return nil, nil, nil, err
			}
		}
		out = append(out, text)
	}
	return out, masked, readonly, nil
}

func profile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	if info.Size() > maxSeccompProfile {
		return "", fmt.Errorf("seccomp profile %s: it has %d bytes, more than %d", path, info.Size(), maxSeccompProfile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	return "seccomp=" + string(data), nil
}

// addDevices tells paths from names of the Container Device Interface.
func (s *security) addDevices(out *container.HostConfig) error {
	var named []string
	for _, text := range s.devices.GetSlice() {
		if !filepath.IsAbs(text) && strings.Contains(text, "=") && strings.Contains(text, "/") {
			named = append(named, text)
			continue
		}
		d, err := device(text)
		if err != nil {
			return err
		}
		out.Devices = append(out.Devices, d)
	}
	out.DeviceRequests = s.gpus.Value()
	if len(named) > 0 {
		out.DeviceRequests = append(out.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: named})
	}
	out.DeviceCgroupRules = s.deviceRules.GetSlice()
	return nil
}

// device reads host[:container][:rights].
func device(text string) (container.DeviceMapping, error) {
	out := container.DeviceMapping{CgroupPermissions: "rwm"}
	parts := strings.Split(text, ":")
	bad := fmt.Errorf("invalid device %q: it is a path[:path][:rwm]", text)
	if len(parts) > 3 || parts[0] == "" {
		return out, bad
	}
	out.PathOnHost, out.PathInContainer = parts[0], parts[0]
	rest := parts[1:]
	if len(rest) > 0 && rights(rest[len(rest)-1]) {
		out.CgroupPermissions, rest = rest[len(rest)-1], rest[:len(rest)-1]
	} else if len(rest) == 2 {
		return out, bad
	}
	if len(rest) == 1 {
		out.PathInContainer = rest[0]
	}
	if !filepath.IsAbs(out.PathInContainer) {
		return out, bad
	}
	return out, nil
}

func rights(text string) bool {
	return text != "" && len(text) <= 3 && strings.Trim(text, "rwm") == ""
}
