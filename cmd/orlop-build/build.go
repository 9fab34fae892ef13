package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	parse "github.com/moby/buildkit/cmd/buildctl/build"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/progress/progressui"
	engine "github.com/moby/moby/client"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/orlop/orlop/cmd/internal/session"
)

// frontendName is BuildKit's name of the language of Dockerfiles.
const frontendName = "dockerfile.v0"

// run builds.
func (f *flags) run(ctx context.Context, s *session.Session, source string) error {
	if f.check {
		f.call = "check"
	}
	opt := &client.SolveOpt{Frontend: frontendName, LocalMounts: map[string]fsutil.FS{}}
	attrs, err := f.attributes(s)
	if err != nil {
		return err
	}
	from := &sources{opt: opt, attrs: attrs}
	defer from.close()
	if err := errors.Join(from.add(s, source, f.file), from.further(f.contexts.GetSlice())); err != nil {
		return err
	}
	opt.FrontendAttrs = attrs
	if err := errors.Join(f.offers(s, opt), f.wants(opt)); err != nil {
		return err
	}
	c, err := connect(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.call != "build" {
		return f.ask(ctx, s, c, opt)
	}
	var resp *client.SolveResponse
	err = f.watched(ctx, func(ctx context.Context, told chan *client.SolveStatus) (err error) {
		resp, err = c.Solve(ctx, nil, *opt, told)
		return err
	})
	if err != nil {
		return err
	}
	return f.tell(s, resp.ExporterResponse)
}

// connect speaks BuildKit's protocol over the engine's socket, wherever that is.
func connect(ctx context.Context, s *session.Session) (*client.Client, error) {
	e, err := s.Engine()
	if err != nil {
		return nil, err
	}
	if _, err := e.Ping(ctx, engine.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, err // in plainer words than gRPC has
	}
	return client.New(ctx, "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return e.DialHijack(ctx, "/grpc", "h2c", nil) }),
		client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return e.DialHijack(ctx, "/session", proto, meta)
		}))
}

// offers are what only the client has: credentials, secrets, agents, and rights.
func (f *flags) offers(s *session.Session, opt *client.SolveOpt) error {
	opt.Session = append(opt.Session, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: authprovider.LoadAuthConfig(s.Config())}))
	if len(f.secrets) > 0 {
		secrets, err := parse.ParseSecret(f.secrets)
		if err != nil {
			return err
		}
		opt.Session = append(opt.Session, secrets)
	}
	if len(f.agents) > 0 {
		configs, err := parse.ParseSSH(f.agents)
		if err != nil {
			return err
		}
		agents, err := sshprovider.NewSSHAgentProvider(configs)
		if err != nil {
			return err
		}
		opt.Session = append(opt.Session, agents)
	}
	for _, right := range f.allow {
		if _, _, err := entitlements.Parse(right); err != nil {
			return err
		}
		opt.AllowedEntitlements = append(opt.AllowedEntitlements, right)
	}
	if f.network == "host" {
		opt.AllowedEntitlements = append(opt.AllowedEntitlements, string(entitlements.EntitlementNetworkHost))
	}
	return nil
}

// wants are what becomes of the result.
func (f *flags) wants(opt *client.SolveOpt) (err error) {
	from := make([]string, len(f.cacheFrom))
	for i, v := range f.cacheFrom {
		if from[i] = v; !strings.Contains(v, "=") {
			from[i] = "type=registry,ref=" + v // a name alone is an image
		}
	}
	if opt.CacheImports, err = parse.ParseImportCache(from); err != nil {
		return err
	}
	if opt.CacheExports, err = parse.ParseExportCache(f.cacheTo); err != nil {
		return err
	}
	fromEnvironment(opt.CacheImports)
	fromEnvironment(opt.CacheExports)
	opt.Exports, err = f.exports()
	return err
}

// image is the exporter that puts an image into the engine's store.
const image = "moby"

func (f *flags) exports() ([]client.ExportEntry, error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	list := f.outputs
	if f.push && f.load {
		return nil, errors.New("push and load may not be set together: a pushed image is kept, too")
	}
	if f.push || len(list) == 0 {
		list = append([]string{"type=image"}, list...)
	}
	var out []client.ExportEntry
	for _, v := range list {
		switch {
		case v == "-":
			v = "type=tar,dest=-"
		case !strings.Contains(v, "="):
			v = "type=local,dest=" + v
		case strings.HasPrefix(v, "type=registry"):
			v = strings.Replace(v, "type=registry", "type=image,push=true", 1)
		case v == "type=cacheonly":
			continue
		case v == "type=docker": // no file: the engine's store
			v = "type=image"
		}
		parsed, err := parse.ParseOutput([]string{v})
		if err != nil {
			return nil, err
		}
		out = append(out, f.export(parsed[0], names))
	}
	return out, nil
}

func (f *flags) export(e client.ExportEntry, names string) client.ExportEntry {
	if e.Type == client.ExporterLocal || e.Type == client.ExporterTar {
		return e
	}
	if e.Attrs["name"] == "" && names != "" {
		e.Attrs["name"] = names
	}
	for _, a := range f.annotations {
		kind, rest, ok := strings.Cut(a, ":")
		switch kind {
		case "manifest", "index", "manifest-descriptor", "index-descriptor":
		default:
			ok = false
		}
		if !ok {
			kind, rest = "manifest", a
		}
		key, value, _ := strings.Cut(rest, "=")
		word := map[string]string{"manifest": "annotation.", "index": "annotation-index.", "manifest-descriptor": "annotation-manifest-descriptor.", "index-descriptor": "annotation-index-descriptor."}[kind]
		e.Attrs[word+key] = value
	}
	if e.Type == client.ExporterImage {
		e.Type = image
		if f.push {
			e.Attrs["push"] = "true"
		}
	}
	return e
}

// names are the tags as whole references.
func (f *flags) names() (string, error) {
	var out []string
	for _, tag := range f.tags.GetSlice() {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			return "", fmt.Errorf("invalid argument %q for \"-t, --tag\" flag: %w", tag, err)
		}
		out = append(out, reference.TagNameOnly(named).String())
	}
	if f.push && len(out) == 0 {
		return "", errors.New("tag is needed when pushing to registry")
	}
	return strings.Join(out, ","), nil
}

// environment are the variables by which people give keys to caches.
var environment = map[string]map[string]string{
	"s3":  {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "session_token": "AWS_SESSION_TOKEN"},
	"gha": {"token": "ACTIONS_RUNTIME_TOKEN", "url": "ACTIONS_CACHE_URL", "url_v2": "ACTIONS_RESULTS_URL"},
}

func fromEnvironment(list []client.CacheOptionsEntry) {
	for _, e := range list {
		for key, variable := range environment[e.Type] {
			if value := os.Getenv(variable); e.Attrs[key] == "" && value != "" {
				e.Attrs[key] = value
			}
		}
	}
}

// watched runs a build and shows what it tells.
func (f *flags) watched(ctx context.Context, build func(context.Context, chan *client.SolveStatus) error) error {
	mode := progressui.DisplayMode(f.progress)
	if v := os.Getenv("BUILDKIT_PROGRESS"); mode == progressui.AutoMode && v != "" {
		mode = progressui.DisplayMode(v)
	}
	if f.quiet {
		mode = progressui.QuietMode
	}
	if mode == progressui.AutoMode && !term.IsTerminal(int(os.Stderr.Fd())) {
		mode = progressui.PlainMode
	}
	shown, err := progressui.NewDisplay(os.Stderr, mode)
	if err != nil {
		return err
	}
	told := make(chan *client.SolveStatus)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return build(ctx, told) })
	g.Go(func() error {
		_, err := shown.UpdateFrom(context.WithoutCancel(ctx), told)
		return err
	})
	return g.Wait()
}

// subrequests are questions that a frontend answers instead of building.
var subrequests = map[string]string{"check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline", "targets": "frontend.targets"}

// ask asks the frontend, and prints its answer.
func (f *flags) ask(ctx context.Context, s *session.Session, c *client.Client, opt *client.SolveOpt) error {
	kind, format, _ := strings.Cut(f.call, ",")
	id := subrequests[kind]
	if id == "" {
		return fmt.Errorf("invalid call %q: use build, check, outline or targets", f.call)
	}
	attrs := opt.FrontendAttrs
	opt.Frontend, opt.FrontendAttrs, opt.Exports = "", nil, nil
	attrs["requestid"], attrs["frontend.caps"] = id, "moby.buildkit.frontend.subrequests"
	var answer map[string][]byte
	err := f.watched(ctx, func(ctx context.Context, told chan *client.SolveStatus) error {
		_, err := c.Build(ctx, *opt, "orlop", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
			got, err := g.Solve(ctx, gateway.SolveRequest{Frontend: frontendName, FrontendOpt: attrs})
			if err != nil {
				return nil, err
			}
			answer = got.Metadata
			return got, nil
		}, told)
		return err
	})
	if err != nil {
		return err
	}
	part := "result.txt"
	if format == "format=json" {
		part = "result.json"
	}
	text := strings.TrimRight(string(answer[part]), "\n")
	if kind == "check" || kind == "lint" {
		return verdict(s, text)
	}
	s.Printf("%s\n", text)
	return nil
}

// verdict prints warnings; any of them is a failure.
func verdict(s *session.Session, text string) error {
	if text == "" {
		s.Printf("Check complete, no warnings found.\n")
		return nil
	}
	s.Printf("%s\n", text)
	reason := "Check complete, the Dockerfile can't be built."
	if n := strings.Count(text, "WARNING: "); n > 0 {
		reason = fmt.Sprintf("Check complete, warnings found: %d", n)
	}
	return session.Status{Code: codeFailed, Reason: reason}
}
