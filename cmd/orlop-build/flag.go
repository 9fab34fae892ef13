package main

import (
	"fmt"

	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/orlop/orlop/cmd/internal/session"
)

// flags are what a command line says.
type flags struct {
	tags, args, labels, hosts, contexts opts.ListOpts
	file, target, network, progress     string
	platforms, noCacheOf                []string
	noCache, pull, quiet, push, load    bool
	check                               bool
	call                                string
	secrets, agents, allow              []string
	outputs, cacheFrom, cacheTo         []string
	attests, annotations                []string
	provenance, sbom                    string
	idFile, metadataFile                string
	cgroupParent                        string
	shm, memory                         opts.MemBytes
	swap                                opts.MemSwapBytes
	ulimits                             *opts.UlimitOpt
	cpuShares, cpuPeriod, cpuQuota      int64
	cpus, memoryNodes                   string
}

func buildCommand(s *session.Session) *cobra.Command {
	f := &flags{tags: opts.NewListOpts(nil), args: opts.NewListOpts(opts.ValidateEnv), labels: opts.NewListOpts(opts.ValidateLabel),
		hosts: opts.NewListOpts(opts.ValidateExtraHost), contexts: opts.NewListOpts(nil), ulimits: opts.NewUlimitOpt(nil)}
	c := &cobra.Command{Use: "build [OPTIONS] PATH | URL | -", Short: "Build an image from a Dockerfile", DisableFlagsInUseLine: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%q requires 1 argument.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", c.CommandPath(), c.CommandPath(), c.UseLine(), c.Short)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return f.run(c.Context(), s, args[0]) }}
	f.common(c.Flags())
	f.results(c.Flags())
	f.limits(c.Flags())
	return c
}

func (f *flags) common(to *pflag.FlagSet) {
	to.VarP(&f.tags, "tag", "t", "Name of the image (name:tag)")
	to.StringVarP(&f.file, "file", "f", "", "Dockerfile, - for standard input (default PATH/Dockerfile)")
	to.Var(&f.args, "build-arg", "Value of an ARG")
	to.Var(&f.contexts, "build-context", "A further context (name=path, image or address)")
	to.Var(&f.labels, "label", "Set a label of the image")
	to.StringVar(&f.target, "target", "", "Stage to build")
	to.StringSliceVar(&f.platforms, "platform", nil, "Platforms to build for")
	to.BoolVar(&f.noCache, "no-cache", false, "Do everything anew")
	to.StringSliceVar(&f.noCacheOf, "no-cache-filter", nil, "Do these stages anew")
	to.BoolVar(&f.pull, "pull", false, "Fetch base images anew")
	to.StringVar(&f.network, "network", "default", "Network of RUN instructions")
	to.Var(&f.hosts, "add-host", "Add an entry to /etc/hosts (host:address)")
	to.StringArrayVar(&f.secrets, "secret", nil, "A secret for steps that ask for it (id=NAME[,src=FILE|,env=VARIABLE])")
	to.StringArrayVar(&f.agents, "ssh", nil, "An agent or keys for steps that ask for it (default|ID[=SOCKET|KEY[,KEY]])")
	to.StringSliceVar(&f.allow, "allow", nil, "Rights to give (network.host, security.insecure)")
	to.BoolVarP(&f.quiet, "quiet", "q", false, "Print the image's ID only")
	to.StringVar(&f.progress, "progress", "auto", "How to show progress (auto, plain, tty, rawjson, quiet)")
	to.BoolVar(&f.check, "check", false, "Check the Dockerfile only")
	to.StringVar(&f.call, "call", "build", "What to do with the Dockerfile (build, check, outline, targets)")
	to.Bool("rm", true, "Remove intermediate containers (they always are)")
	to.Bool("force-rm", false, "Remove intermediate containers always (they are)")
	to.Bool("compress", false, "Compress the context (only what is needed is sent)")
	for _, old := range []string{"rm", "force-rm", "compress"} {
		_ = to.MarkHidden(old)
	}
}

func (f *flags) results(to *pflag.FlagSet) {
	to.StringArrayVarP(&f.outputs, "output", "o", nil, "Where the result goes (type=local|tar|oci|docker|image|cacheonly[,dest=PATH], or PATH)")
	to.BoolVar(&f.push, "push", false, "Push the image")
	to.BoolVar(&f.load, "load", false, "Keep the image in the engine's store, which is the default")
	to.StringArrayVar(&f.cacheFrom, "cache-from", nil, "Take steps from there (IMAGE, or type=…)")
	to.StringArrayVar(&f.cacheTo, "cache-to", nil, "Keep steps there, too (type=inline|registry|local|s3|azblob|gha)")
	to.StringArrayVar(&f.attests, "attest", nil, "Attestations to add (type=sbom|provenance[,…])")
	to.StringVar(&f.provenance, "provenance", "", "Shorthand of --attest type=provenance")
	to.StringVar(&f.sbom, "sbom", "", "Shorthand of --attest type=sbom")
	to.Lookup("provenance").NoOptDefVal, to.Lookup("sbom").NoOptDefVal = "true", "true"
	to.StringArrayVar(&f.annotations, "annotation", nil, "Annotations of the manifest ([TYPE:]KEY=VALUE)")
	to.StringVar(&f.idFile, "iidfile", "", "Write the image's ID to the file")
	to.StringVar(&f.metadataFile, "metadata-file", "", "Write what is known of the result to the file, as JSON")
}

func (f *flags) limits(to *pflag.FlagSet) {
	to.VarP(&f.memory, "memory", "m", "Memory limit of RUN instructions")
	to.Var(&f.swap, "memory-swap", "Limit of memory and swap together")
	to.Var(&f.shm, "shm-size", "Size of /dev/shm")
	to.Var(f.ulimits, "ulimit", "Resource limits")
	to.StringVar(&f.cgroupParent, "cgroup-parent", "", "Parent cgroup of RUN instructions")
	to.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "Weight of CPU time")
	to.Int64Var(&f.cpuPeriod, "cpu-period", 0, "Period of the CPU quota, in microseconds")
	to.Int64Var(&f.cpuQuota, "cpu-quota", 0, "CPU time in each period, in microseconds")
	to.StringVar(&f.cpus, "cpuset-cpus", "", "CPUs to run on")
	to.StringVar(&f.memoryNodes, "cpuset-mems", "", "Memory nodes to use")
}
