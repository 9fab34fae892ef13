package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	api "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/services/spec"
	"github.com/orlop/orlop/services/unpack"
)

// makingLife is how long what a creation that was killed left is held.
const makingLife = 10 * time.Minute

// Creation is a container to make.
type Creation struct {
	// Name is its name; empty chooses one.
	Name     string
	Platform ocispec.Platform
	Config   *api.Config
	Host     *api.HostConfig
	// ShallowReadOnly leaves what is mounted below read-only binds writable, as it was
	// for older clients.
	ShallowReadOnly bool
	// Networks are the networks to connect it to, beside that of the host config.
	Networks endpoints
}

// validName is Docker's rule for names of containers.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// Create makes a container and returns its ID, and what the caller should know.
func (e *Engine) Create(ctx context.Context, o Creation) (id string, warn []string, err error) {
	ctx = e.in(ctx)
	if o.Config == nil {
		return "", nil, invalid("config cannot be empty in order to create a container")
	}
	if o.Host == nil {
		o.Host = &api.HostConfig{}
	}
	if o.Config.Image == "" {
		return "", nil, invalid("no image is named: Config.Image is empty")
	}
	img, err := e.FindImage(ctx, o.Config.Image)
	if err != nil {
		return "", nil, err
	}
	d, err := e.Details(ctx, img, o.Platform)
	if err != nil {
		return "", nil, err
	}
	c, warn, err := e.draft(ctx, o, d)
	if err != nil {
		return "", nil, err
	}
	if err := e.make(ctx, c, d); err != nil {
		return "", nil, err
	}
	e.tell(c, "create")
	return c.ID, warn, nil
}

// draft checks what is asked for and completes it.
func (e *Engine) draft(ctx context.Context, o Creation, d *Details) (*Container, []string, error) {
	err := e.complete(ctx, &o)
	if err != nil {
		return nil, nil, err
	}
	var fromImage api.Config
	if len(d.Config.Docker) > 0 {
		if err := json.Unmarshal(d.Config.Docker, &fromImage); err != nil {
			return nil, nil, invalid("config of image %s: %v", d.ID, err)
		}
	}
	warn, err := e.discardLimits(&o.Host.Resources)
	if err != nil {
		return nil, nil, err
	}
	warn = append(networkWarnings(o.Host), warn...)
	c := &Container{ID: newID(), waiters: map[*Waiter]struct{}{}}
	merged := merge(*o.Config, &fromImage)
	if merged.Hostname == "" && !o.Host.UTSMode.IsHost() && !o.Host.NetworkMode.IsHost() {
		merged.Hostname = short(c.ID)
	}
	if o.Name == "" {
		o.Name = e.inventName()
	}
	name := strings.TrimPrefix(o.Name, "/")
	if !validName.MatchString(name) {
		return nil, nil, invalid("Invalid container name (%s), only %s are allowed", o.Name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	c.rec = record{Name: name, Config: merged, HostConfig: o.Host, ImageID: d.ID.String(), Manifest: d.Describe()}
	if c.rec.Networks, err = e.draftNetworks(c, o.Networks); err != nil {
		return nil, nil, err
	}
	if c.rec.Mounts, err = e.mountsFor(merged, o.Host); err != nil {
		return nil, nil, err
	}
	for i := range c.rec.Mounts {
		if m := &c.rec.Mounts[i]; o.ShallowReadOnly && m.Type == mountBind && m.ReadOnly {
			m.ShallowReadOnly = true
		}
	}
	return c, warn, e.rehearse(c)
}

// complete sets defaults and refuses what can't be.
func (e *Engine) complete(ctx context.Context, o *Creation) error {
	h := o.Host
	if err := unsupported(o.Config, h); err != nil {
		return err
	}
	if o.Config.NetworkDisabled && h.NetworkMode.IsDefault() || h.NetworkMode == "" && o.Config.NetworkDisabled {
		h.NetworkMode = "none"
	}
	if e.Networks != nil && e.Networks.NoDefault() && (h.NetworkMode == "" || h.NetworkMode.IsDefault()) {
		h.NetworkMode = "none"
		delete(o.Networks, "default") // which clients name, too
	}
	if h.NetworkMode == "" {
		h.NetworkMode = "default"
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = logJSON
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = api.RestartPolicyDisabled
	}
	if h.IpcMode == "" {
		h.IpcMode = api.IpcMode(e.Config.DefaultIPCMode)
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = api.CgroupnsModePrivate
	}
	if h.Runtime == "" {
		h.Runtime = DefaultRuntime
	}
	if o.Config.WorkingDir != "" {
		o.Config.WorkingDir = path.Clean(o.Config.WorkingDir)
	}
	if h.PidMode.IsContainer() {
		if _, err := e.lookup(h.PidMode.Container()); err != nil {
			return invalid("%v", err)
		}
	}
	if h.ShmSize == 0 {
		h.ShmSize = e.Config.DefaultShmSize
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if _, err := logOptions(&h.LogConfig); err != nil {
		return err
	}
	if err := e.checkUsers(h); err != nil {
		return err
	}
	return e.checkNetwork(ctx, h)
}

// checkNetwork refuses networks that aren't there.
func (e *Engine) checkNetwork(ctx context.Context, h *api.HostConfig) error {
	mode := h.NetworkMode
	switch {
	case mode.IsNone(), mode.IsHost():
		return nil
	case mode.IsContainer():
		_, err := e.lookup(mode.ConnectedContainer())
		return err
	case e.Networks == nil && (mode.IsDefault() || mode.IsBridge()):
		return missing("networks of type bridge are not available yet; use --network none or host")
	case e.Networks == nil:
		return notFound("network %s not found: networks of your own are not available yet; use --network none or host", mode)
	}
	return nil // one that isn't there is told at the start: it may be made until then
}

// merge puts the image's config under the caller's.
func merge(c api.Config, img *api.Config) *api.Config {
	if c.User == "" {
		c.User = img.User
	}
	if c.Entrypoint == nil {
		c.Entrypoint = img.Entrypoint
		if len(c.Cmd) == 0 {
			c.Cmd = img.Cmd
		}
	} else if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil // how an image's entrypoint is taken away
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if c.StopTimeout == nil {
		c.StopTimeout = img.StopTimeout
	}
	if len(c.Shell) == 0 {
		c.Shell = img.Shell
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, img.Healthcheck)
	c.Env = mergeEnv(img.Env, c.Env)
	labels := maps.Clone(img.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	ports := maps.Clone(img.ExposedPorts)
	if ports != nil {
		maps.Copy(ports, c.ExposedPorts)
		c.ExposedPorts = ports
	}
	volumes := maps.Clone(img.Volumes)
	if volumes != nil {
		maps.Copy(volumes, c.Volumes)
		c.Volumes = volumes
	}
	return &c
}

// mergeEnv puts variables over others; the caller's come first, as Docker lists them.
func mergeEnv(under, over []string) []string {
	out := slices.Clone(over)
	for _, v := range under {
		key, _, _ := strings.Cut(v, "=")
		set := slices.ContainsFunc(over, func(o string) bool { k, _, _ := strings.Cut(o, "="); return k == key })
		if !set {
			out = append(out, v)
		}
	}
	return out
}

// rehearse makes the spec once, with nobody's rights, so that mistakes are told now.
func (e *Engine) rehearse(c *Container) error {
	o, err := options(c.ID, c.rec.Config, c.rec.HostConfig)
	if err != nil {
		return err
	}
	o.User, o.ExtraGroups, o.Mounts = "0:0", nil, specMounts(c.rec.Mounts)
	if len(o.Entrypoint)+len(o.Args) == 0 {
		return invalid("no command specified")
	}
	if len(o.Entrypoint) == 0 && o.Args[0] == "" { // which is told when it starts, as in Docker
		o.Args = append([]string{"/"}, o.Args[1:]...)
	}
	draft, err := spec.Generate(o)
	if err != nil {
		return invalid("%v", err)
	}
	draft.Linux.Seccomp = nil // by far the largest part
	data, err := json.Marshal(draft)
	if err != nil {
		return err
	}
	c.stored.Spec = raw{specType + "Spec", data} // until the start makes the true one
	if _, err := parseSignal(c.rec.Config.StopSignal, "SIGTERM"); err != nil {
		return err
	}
	_, err = runtimeName(c.rec.HostConfig.Runtime)
	return err
}

// DefaultRuntime is the name of the runtime that is built in.
const DefaultRuntime = "orlop"

// runtimeName is what a runtime is called to the task manager.
func runtimeName(name string) (string, error) {
	switch {
	case name == DefaultRuntime:
		return "io.containerd.orlop.v1", nil
	case name == "runc", name == "crun":
		return "io.orlop." + name + ".v1", nil
	case strings.Contains(name, ".") && !strings.Contains(name, "/"):
		return name, nil
	}
	return "", invalid("unknown or invalid runtime name: %s", name)
}

// make makes the container's tree and record.
func (e *Engine) make(ctx context.Context, c *Container, d *Details) error {
	if err := e.index(c); err != nil {
		return err
	}
	err := e.store(ctx, c, d)
	if err != nil {
		e.unindex(c)
		os.RemoveAll(e.folder(c.ID))
	}
	return err
}

func (e *Engine) store(ctx context.Context, c *Container, d *Details) error {
	name := e.Snapshotter(ctx)
	s, err := e.Snapshots(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.folder(c.ID), 0o700); err != nil {
		return err
	}
	c.stored.Snapshotter, c.stored.SnapshotKey = name, c.ID
	if err := e.storeShort(ctx, c, d, s); !errors.Is(err, errRefused) {
		return err
	}
	ctx, end, err := lease.Hold(ctx, e.Leases, "create", makingLife)
	if err != nil {
		return err
	}
	defer end(false)
	if err := e.Unpack.Image(ctx, []unpack.Target{{Platform: d.Config.Platform, Snapshotter: name}}, d.Manifest, nil); err != nil {
		return err
	}
	parent := ""
	if n := len(d.Chains); n > 0 {
		parent = d.Chains[n-1]
	}
	if _, err := s.Prepare(ctx, c.ID, parent, c.snapshotLabels()); err != nil {
		return err
	}
	if err = e.settle(ctx, c); err == nil {
		err = e.enroll(ctx, c, d)
	}
	if err != nil {
		e.unsettle(context.WithoutCancel(ctx), c)
		if rerr := s.Remove(context.WithoutCancel(ctx), c.ID); rerr != nil && !errdefs.IsNotFound(rerr) {
			return rerr
		}
	}
	return err
}

// enroll makes the container's record: from then on it is there.
func (e *Engine) enroll(ctx context.Context, c *Container, d *Details) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	runtime, err := runtimeName(c.rec.HostConfig.Runtime)
	if err == nil {
		c.stored = container.Container{ID: c.ID, Spec: c.stored.Spec, Labels: imageLabels(storedLabels(c.rec.Config.Labels), c.stored.Snapshotter, c.rec.Mounts), Image: storedName(d.Image.stored, c.rec.Config.Image),
			Runtime: container.Runtime{Name: runtime}, Snapshotter: c.stored.Snapshotter, SnapshotKey: c.ID}
		c.stored, err = c.encode()
	}
	if err == nil {
		c.stored, err = e.Containers.Create(ctx, c.stored)
		c.stored = kept(c.stored)
	}
	return err
}

// storedName is the image's name for the record: the one that was asked for, if that is
// one, else any.
func storedName(names []string, asked string) string {
	if named, err := reference.ParseNormalizedNamed(asked); err == nil {
		if full := reference.TagNameOnly(named).String(); slices.Contains(names, full) {
			return full
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return asked
}

// storedLabels are the labels that the record takes, for the other doors: those
// that steer the collector are no user's business.
func storedLabels(labels map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range labels {
		if !strings.HasPrefix(k, "containerd.io/") && !strings.HasPrefix(k, "orlop.dev/") && label.Validate(map[string]string{k: v}) == nil {
			out[k] = v
		}
	}
	return out
}

// newID is a new container's ID. One whose short form is a number alone would be
// taken for one by programs that read it as a hostname.
func newID() string {
	for {
		b := make([]byte, 32)
		rand.Read(b)
		if id := hex.EncodeToString(b); strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

// runFolder is where the fifos of a container are.
func (e *Engine) runFolder(id string) string { return filepath.Join(e.at.State, id) }
