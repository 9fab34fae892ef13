// Package option turns the flags of run and create into what the Engine API takes.
// The values' grammars are those of docker's own option library.
package option

import (
	"net"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// Container are the flags of a container that is to be made.
type Container struct {
	flags *pflag.FlagSet

	process  process
	health   health
	network  networking
	storage  storage
	security security
	limits   Limits

	AutoRemove bool
	CIDFile    string
	initFlag   bool
	restart    string
	labels     opts.ListOpts
	labelFiles opts.ListOpts
	annotation *opts.MapOpts
	logDriver  string
	logOpts    opts.ListOpts
	runtime    string
	isolation  string
}

type process struct {
	attach                opts.ListOpts
	env, envFiles         opts.ListOpts
	groups                opts.ListOpts
	entrypoint            string
	hostname, domainname  string
	stdin, tty            bool
	stopSignal            string
	stopTimeout           int
	user, workdir         string
	pid, uts, ipc, cgroup string
	userns, cgroupParent  string
	oomScore              int
	umask                 string
	sysctls               *opts.MapOpts
	ulimits               *opts.UlimitOpt
}

type health struct {
	command                               string
	interval, timeout, start, startRepeat opts.DurationOpt
	retries                               int
	none                                  bool
}

type networking struct {
	mode                       opts.NetworkOpt
	aliases, links, linkLocal  opts.ListOpts
	ip4, ip6                   net.IP
	mac                        string
	publish, expose            opts.ListOpts
	publishAll                 bool
	dns, dnsOptions, dnsSearch opts.ListOpts
	hosts                      opts.ListOpts
}

type storage struct {
	volumes, from, tmpfs, options opts.ListOpts
	mounts                        opts.MountOpt
	driver                        string
	readOnly                      bool
	shm                           opts.MemBytes
}

type security struct {
	capAdd, capDrop, options opts.ListOpts
	privileged               bool
	devices, deviceRules     opts.ListOpts
	gpus                     opts.GpuOpts
}

// list makes a list of strings that are checked.
func list(check opts.ValidatorFctType) opts.ListOpts { return opts.NewListOpts(check) }

// Add declares the flags.
func Add(flags *pflag.FlagSet) *Container {
	c := &Container{flags: flags, labels: list(opts.ValidateLabel), labelFiles: list(nil), annotation: opts.NewMapOpts(nil, nil), logOpts: list(nil)}
	flags.SetInterspersed(false) // what follows the image is the command's
	c.process.add(flags)
	c.health.add(flags)
	c.network.add(flags)
	c.storage.add(flags)
	c.security.add(flags)
	c.limits.Add(flags)
	flags.BoolVar(&c.AutoRemove, "rm", false, "Remove the container and its anonymous volumes when it exits")
	flags.StringVar(&c.CIDFile, "cidfile", "", "Write the container's ID to the file")
	flags.BoolVar(&c.initFlag, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	flags.StringVar(&c.restart, "restart", string(container.RestartPolicyDisabled), "When to restart the container (no|on-failure[:max]|always|unless-stopped)")
	flags.VarP(&c.labels, "label", "l", "Set a label of the container")
	flags.Var(&c.labelFiles, "label-file", "Read labels from a file, one a line")
	flags.Var(c.annotation, "annotation", "Add an annotation to the runtime spec")
	flags.StringVar(&c.logDriver, "log-driver", "", "Where the container's output goes")
	flags.Var(&c.logOpts, "log-opt", "Options of the log driver")
	flags.StringVar(&c.runtime, "runtime", "", "OCI runtime of this container")
	flags.StringVar(&c.isolation, "isolation", "", "Isolation of the container")
	return c
}

func (p *process) add(flags *pflag.FlagSet) {
	p.attach, p.env, p.envFiles, p.groups = list(attachable), list(opts.ValidateEnv), list(nil), list(nil)
	p.sysctls, p.ulimits = opts.NewMapOpts(nil, opts.ValidateSysctl), opts.NewUlimitOpt(nil)
	flags.VarP(&p.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR")
	flags.VarP(&p.env, "env", "e", "Set an environment variable")
	flags.Var(&p.envFiles, "env-file", "Read environment variables from a file")
	flags.StringVar(&p.entrypoint, "entrypoint", "", "Replace the image's entrypoint")
	flags.Var(&p.groups, "group-add", "Add a supplementary group")
	flags.StringVarP(&p.hostname, "hostname", "h", "", "Host name of the container")
	flags.StringVar(&p.domainname, "domainname", "", "NIS domain name of the container")
	flags.BoolVarP(&p.stdin, "interactive", "i", false, "Keep standard input open")
	flags.BoolVarP(&p.tty, "tty", "t", false, "Give the process a terminal")
	flags.StringVar(&p.stopSignal, "stop-signal", "", "Signal that stops the container")
	flags.IntVar(&p.stopTimeout, "stop-timeout", 0, "Seconds to wait before a stop kills")
	flags.StringVarP(&p.user, "user", "u", "", "User name or ID (name|uid[:group|gid])")
	flags.StringVarP(&p.workdir, "workdir", "w", "", "Working directory inside the container")
	flags.StringVar(&p.pid, "pid", "", "PID namespace (host|container:NAME)")
	flags.StringVar(&p.uts, "uts", "", "UTS namespace (host)")
	flags.StringVar(&p.ipc, "ipc", "", "IPC namespace (none|private|shareable|host|container:NAME)")
	flags.StringVar(&p.cgroup, "cgroupns", "", "Cgroup namespace (host|private)")
	flags.StringVar(&p.userns, "userns", "", "User namespace (host)")
	flags.StringVar(&p.cgroupParent, "cgroup-parent", "", "Parent cgroup of the container")
	flags.IntVar(&p.oomScore, "oom-score-adj", 0, "Preference of the OOM killer (-1000 to 1000)")
	flags.StringVar(&p.umask, "umask", "", "Umask of the first process, in octal")
	flags.Var(p.sysctls, "sysctl", "Kernel parameters of the container's namespaces")
	flags.Var(p.ulimits, "ulimit", "Resource limits (name=soft[:hard])")
}

func (h *health) add(flags *pflag.FlagSet) {
	flags.StringVar(&h.command, "health-cmd", "", "Command that checks health")
	flags.Var(&h.interval, "health-interval", "Time between checks")
	flags.IntVar(&h.retries, "health-retries", 0, "Failures in a row until the container is unhealthy")
	flags.Var(&h.timeout, "health-timeout", "Longest time of a check")
	flags.Var(&h.start, "health-start-period", "Time to come up, during which failures don't count")
	flags.Var(&h.startRepeat, "health-start-interval", "Time between checks while it comes up")
	flags.BoolVar(&h.none, "no-healthcheck", false, "Do without the image's health check")
}

func (n *networking) add(flags *pflag.FlagSet) {
	n.aliases, n.links, n.linkLocal = list(nil), list(opts.ValidateLink), list(opts.ValidateIPAddress)
	n.publish, n.expose = list(nil), list(nil)
	n.dns, n.dnsOptions, n.dnsSearch = list(opts.ValidateIPAddress), list(nil), list(opts.ValidateDNSSearch)
	n.hosts = list(opts.ValidateExtraHost)
	flags.Var(&n.mode, "network", "Connect to a network (bridge|host|none|container:NAME|NETWORK)")
	flags.Var(&n.mode, "net", "Connect to a network")
	flags.MarkHidden("net")
	flags.Var(&n.aliases, "network-alias", "Name of the container on its network")
	flags.Var(&n.aliases, "net-alias", "Name of the container on its network")
	flags.MarkHidden("net-alias")
	flags.Var(&n.links, "link", "Link to another container")
	flags.Var(&n.linkLocal, "link-local-ip", "Link-local addresses")
	flags.IPVar(&n.ip4, "ip", nil, "IPv4 address")
	flags.IPVar(&n.ip6, "ip6", nil, "IPv6 address")
	flags.StringVar(&n.mac, "mac-address", "", "MAC address")
	flags.VarP(&n.publish, "publish", "p", "Publish a port ([[host:]port:]port[/protocol])")
	flags.BoolVarP(&n.publishAll, "publish-all", "P", false, "Publish every exposed port at a free one of the host")
	flags.Var(&n.expose, "expose", "Expose a port or a range of ports")
	flags.Var(&n.dns, "dns", "DNS servers")
	flags.Var(&n.dnsOptions, "dns-option", "DNS options")
	flags.Var(&n.dnsOptions, "dns-opt", "DNS options")
	flags.MarkHidden("dns-opt")
	flags.Var(&n.dnsSearch, "dns-search", "DNS search domains")
	flags.Var(&n.hosts, "add-host", "Add an entry to /etc/hosts (host:address)")
}

func (s *storage) add(flags *pflag.FlagSet) {
	s.volumes, s.from, s.tmpfs, s.options = list(nil), list(nil), list(nil), list(nil)
	flags.VarP(&s.volumes, "volume", "v", "Mount a volume or a folder of the host (source:target[:options])")
	flags.Var(&s.from, "volumes-from", "Mount the volumes of other containers")
	flags.Var(&s.tmpfs, "tmpfs", "Mount a tmpfs (target[:options])")
	flags.Var(&s.options, "storage-opt", "Options of the container's file system")
	flags.Var(&s.mounts, "mount", "Mount anything (type=…,source=…,target=…)")
	flags.StringVar(&s.driver, "volume-driver", "", "Driver of the volumes")
	flags.BoolVar(&s.readOnly, "read-only", false, "Mount the root file system read-only")
	flags.Var(&s.shm, "shm-size", "Size of /dev/shm")
}

func (s *security) add(flags *pflag.FlagSet) {
	s.capAdd, s.capDrop, s.options, s.devices, s.deviceRules = list(nil), list(nil), list(nil), list(nil), list(nil)
	flags.Var(&s.capAdd, "cap-add", "Add capabilities")
	flags.Var(&s.capDrop, "cap-drop", "Drop capabilities")
	flags.BoolVar(&s.privileged, "privileged", false, "Give the container all privileges")
	flags.Var(&s.options, "security-opt", "Security options")
	flags.Var(&s.devices, "device", "Add a device (path[:path[:rwm]] or vendor/class=name)")
	flags.Var(&s.deviceRules, "device-cgroup-rule", "Allow devices by rule")
	flags.Var(&s.gpus, "gpus", "Add GPUs (all, or a number)")
}
