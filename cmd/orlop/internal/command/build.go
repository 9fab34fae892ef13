package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/opts"
	"github.com/moby/go-archive"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/jsonmessage"
	"github.com/moby/patternmatcher/ignorefile"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/internal/session"
)

func builderNoun(s *session.Session) *cobra.Command {
	return noun("builder", "Manage builds", buildCommand(s), pruneBuilds(s))
}

type building struct {
	client.ImageBuildOptions
	args, labels, tags, hosts, cache opts.ListOpts
	memory                           opts.MemBytes
	swap                             opts.MemSwapBytes
	shm                              opts.MemBytes
	ulimits                          *opts.UlimitOpt
	idFile, platform                 string
	quiet                            bool
}

// buildCommand becomes orlop-build, which speaks BuildKit's protocol; the classic API
// remains for engines that have no other, with DOCKER_BUILDKIT=0, and where orlop-build
// isn't installed.
func buildCommand(s *session.Session) *cobra.Command {
	path := builder()
	if path == "" {
		return classicBuild(s)
	}
	return &cobra.Command{Use: "build [OPTIONS] PATH | URL | -", Short: "Build an image from a Dockerfile", DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return os.NewSyscallError("exec "+path, unix.Exec(path, append([]string{"orlop"}, s.Args...), os.Environ()))
		}}
}

// builder is the path of orlop-build, "" if it isn't wanted or isn't there.
func builder() string {
	if os.Getenv("DOCKER_BUILDKIT") == "0" {
		return ""
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "orlop-build")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("orlop-build")
	if err != nil {
		return ""
	}
	return path
}

func classicBuild(s *session.Session) *cobra.Command {
	b := building{args: opts.NewListOpts(opts.ValidateEnv), labels: opts.NewListOpts(opts.ValidateLabel), tags: opts.NewListOpts(nil),
		hosts: opts.NewListOpts(opts.ValidateExtraHost), cache: opts.NewListOpts(nil), ulimits: opts.NewUlimitOpt(nil)}
	c := &cobra.Command{Use: "build [OPTIONS] PATH | URL | -", Short: "Build an image from a Dockerfile", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return b.run(c.Context(), s, args[0]) }}
	f := c.Flags()
	f.VarP(&b.tags, "tag", "t", "Name of the image (name:tag)")
	f.StringVarP(&b.Dockerfile, "file", "f", "", "Dockerfile (default PATH/Dockerfile)")
	f.Var(&b.args, "build-arg", "Value of an ARG")
	f.Var(&b.labels, "label", "Set a label of the image")
	f.StringVar(&b.Target, "target", "", "Stage to build")
	f.BoolVar(&b.NoCache, "no-cache", false, "Do everything anew")
	f.BoolVar(&b.PullParent, "pull", false, "Fetch base images anew")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "Print the image's ID only")
	f.BoolVar(&b.Remove, "rm", true, "Remove intermediate containers")
	f.BoolVar(&b.ForceRemove, "force-rm", false, "Remove intermediate containers always")
	f.StringVar(&b.NetworkMode, "network", "default", "Network of RUN instructions")
	f.Var(&b.hosts, "add-host", "Add an entry to /etc/hosts (host:address)")
	f.Var(&b.cache, "cache-from", "Images to take steps from")
	f.StringVar(&b.idFile, "iidfile", "", "Write the image's ID to the file")
	f.StringVar(&b.platform, "platform", "", "Platform to build for")
	f.VarP(&b.memory, "memory", "m", "Memory limit of RUN instructions")
	f.Var(&b.swap, "memory-swap", "Limit of memory and swap together")
	f.Var(&b.shm, "shm-size", "Size of /dev/shm")
	f.Var(b.ulimits, "ulimit", "Resource limits")
	f.StringVar(&b.CgroupParent, "cgroup-parent", "", "Parent cgroup of RUN instructions")
	f.Int64VarP(&b.CPUShares, "cpu-shares", "c", 0, "Weight of CPU time")
	f.Int64Var(&b.CPUPeriod, "cpu-period", 0, "Period of the CPU quota, in microseconds")
	f.Int64Var(&b.CPUQuota, "cpu-quota", 0, "CPU time in each period, in microseconds")
	f.StringVar(&b.CPUSetCPUs, "cpuset-cpus", "", "CPUs to run on")
	f.StringVar(&b.CPUSetMems, "cpuset-mems", "", "Memory nodes to use")
	f.StringSliceVar(&b.SecurityOpt, "security-opt", nil, "Security options")
	return c
}

func (b *building) run(ctx context.Context, s *session.Session, source string) error {
	content, err := b.context(s, source)
	if err != nil {
		return err
	}
	if content != nil {
		defer content.Close()
		b.Context = content
	}
	if err := b.complete(s); err != nil {
		return err
	}
	e, err := s.Engine()
	if err != nil {
		return err
	}
	got, err := e.ImageBuild(ctx, b.Context, b.ImageBuildOptions)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	return b.show(s, got.Body)
}

func (b *building) complete(s *session.Session) error {
	b.Version, b.AuthConfigs = build.BuilderV1, s.AllCredentials()
	b.Tags, b.BuildArgs, b.Labels = b.tags.GetSlice(), opts.ConvertKVStringsToMapWithNil(b.args.GetSlice()), opts.ConvertKVStringsToMap(b.labels.GetSlice())
	b.ExtraHosts, b.CacheFrom, b.Ulimits = b.hosts.GetSlice(), b.cache.GetSlice(), b.ulimits.GetList()
	b.Memory, b.MemorySwap, b.ShmSize, b.SuppressOutput = b.memory.Value(), b.swap.Value(), b.shm.Value(), b.quiet
	for _, key := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY"} {
		for proxy, value := range s.Config().ParseProxyConfig(s.Host(), nil) {
			if _, given := b.BuildArgs[proxy]; !given && strings.EqualFold(proxy, key) {
				b.BuildArgs[proxy] = value
			}
		}
	}
	if b.platform == "" {
		b.platform = os.Getenv("DOCKER_DEFAULT_PLATFORM")
	}
	if b.platform != "" {
		p, err := platforms.Parse(b.platform)
		if err != nil {
			return err
		}
		b.Platforms = []ocispec.Platform{p}
	}
	return nil
}

// context packs what the build may see. Sources that the engine fetches itself are
// none of ours.
func (b *building) context(s *session.Session, source string) (io.ReadCloser, error) {
	switch {
	case source == "-":
		if b.Dockerfile == "-" {
			return nil, errors.New("invalid argument: can't use stdin for both build context and dockerfile")
		}
		return openInput(s, "-")
	case strings.Contains(source, "://"), strings.HasPrefix(source, "git@"), strings.HasPrefix(source, "github.com/"):
		b.RemoteContext = source
		return nil, nil
	}
	dir, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("unable to prepare context: path %q not found", source)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("unable to prepare context: %q is no directory", source)
	}
	excludes, extra, err := b.choose(s, dir)
	if err != nil {
		return nil, err
	}
	packed, err := archive.TarWithOptions(dir, &archive.TarOptions{ExcludePatterns: excludes, ChownOpts: &archive.ChownOpts{UID: 0, GID: 0}})
	if err != nil || extra == nil {
		return packed, err
	}
	return withFile(packed, b.Dockerfile, extra), nil
}

// outside is the name of a Dockerfile that isn't in the context.
const outside = ".orlop.dockerfile"

// choose reads .dockerignore, and the Dockerfile if it isn't in the folder.
func (b *building) choose(s *session.Session, dir string) (excludes []string, extra []byte, err error) {
	switch {
	case b.Dockerfile == "-":
		if extra, err = io.ReadAll(io.LimitReader(s.In, maxDockerfile)); err != nil {
			return nil, nil, err
		}
		b.Dockerfile = outside
	case b.Dockerfile != "":
		abs, err := filepath.Abs(b.Dockerfile)
		if err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(abs); err != nil {
			abs = filepath.Join(dir, b.Dockerfile)
		}
		rel, err := filepath.Rel(dir, abs)
		if err != nil {
			return nil, nil, err
		}
		if b.Dockerfile = filepath.ToSlash(rel); strings.HasPrefix(rel, "..") {
			if extra, err = os.ReadFile(abs); err != nil {
				return nil, nil, err
			}
			b.Dockerfile = outside
		}
	}
	excludes, err = ignored(dir, b.Dockerfile)
	return excludes, extra, err
}

// maxDockerfile bounds what is read from standard input, in bytes.
const maxDockerfile = 16 << 20

// ignored reads the Dockerfile's own ignore file, or the folder's.
func ignored(dir, dockerfile string) ([]string, error) {
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		excludes, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if dockerfile == "" {
			dockerfile = "Dockerfile"
		}
		return slices.Concat(excludes, []string{"!" + name, "!" + dockerfile}), nil // the engine needs them
	}
	return nil, nil
}

// show prints the build's messages; with --quiet only its last line, the ID.
func (b *building) show(s *session.Session, in io.Reader) error {
	id := ""
	var out io.Writer = s.Out
	last := &strings.Builder{}
	if b.quiet {
		out = last
	}
	err := jsonmessage.DisplayStream(in, out, jsonmessage.WithAuxCallback(func(m jsonstream.Message) {
		var got build.Result
		if m.Aux != nil && json.Unmarshal(*m.Aux, &got) == nil && got.ID != "" {
			id = got.ID
		}
	}))
	if err != nil {
		if b.quiet {
			fmt.Fprint(s.Err, last.String())
		}
		code := 1
		var said *jsonstream.Error
		if errors.As(err, &said) && said.Code != 0 {
			code = said.Code // of the step that failed
		}
		return session.Status{Code: code, Reason: err.Error()}
	}
	if b.quiet {
		if id == "" {
			id = strings.TrimSpace(last.String())
		}
		s.Printf("%s\n", id)
	}
	if b.idFile != "" {
		return os.WriteFile(b.idFile, []byte(id), 0o644)
	}
	return nil
}

func pruneBuilds(s *session.Session) *cobra.Command {
	var all bool
	var keep opts.MemBytes
	c := pruneCommand(s, "all dangling build cache", func(ctx context.Context, e *client.Client, f client.Filters) (pruned, error) {
		got, err := e.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: all, Filters: f, ReservedSpace: keep.Value()})
		return pruned{title: "Deleted build cache objects:", names: got.Report.CachesDeleted, freed: got.Report.SpaceReclaimed}, err
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove all that no build uses")
	c.Flags().Var(&keep, "keep-storage", "Space to keep")
	return c
}
