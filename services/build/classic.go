package build

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Result is a finished build.
type Result struct {
	// Digest is the image's, empty if none was made.
	Digest string
	Names  []string
}

// Classic runs a build for the classic API. The body is the context as a tar archive,
// or a Dockerfile alone; it is read while the build runs, and may be nil.
func (b *Builder) Classic(ctx context.Context, r Request, body io.ReadCloser, told Listener) (Result, error) {
	o, err := b.open()
	if err != nil {
		return Result{}, err
	}
	req, err := r.solve()
	if err != nil {
		return Result{}, err
	}
	if r.Remote != ClientSession {
		own, err := b.give(ctx, o, &r, req.FrontendAttrs, body)
		if err != nil {
			return Result{}, err
		}
		defer own.close()
		req.Session = own.session.ID()
	}
	return o.run(ctx, req, told)
}

// give opens a session that has what a client without one has sent.
func (b *Builder) give(ctx context.Context, o *opened, r *Request, attrs map[string]string, body io.ReadCloser) (*offer, error) {
	if r.Remote != "" {
		attrs["context"] = r.Remote
		return o.offered(ctx, nil, r.Auths)
	}
	plain, err := plainBody(body)
	if err != nil {
		return nil, err
	}
	in, err := hideIgnored(plain, r.Dockerfile, b.cfg.Temp, b.cfg.ContextBytes)
	if err != nil {
		return nil, err
	}
	var more []session.Attachable
	done := func() error { return nil }
	if in.dockerfile != nil {
		var file session.Attachable
		if file, done, err = offerDockerfile(in.dockerfile, b.cfg.Temp, attrs); err != nil {
			return nil, errors.Join(err, in.Close())
		}
		more = append(more, file)
	}
	own, err := o.offered(ctx, weigh(in.ReadCloser, b.cfg.ContextBytes, b.cfg.ContextEntries), r.Auths, more...)
	if err != nil {
		return nil, errors.Join(err, done())
	}
	own.after = done
	attrs["context"] = own.url
	return own, nil
}

// run solves and listens.
func (o *opened) run(ctx context.Context, req *controlapi.SolveRequest, told Listener) (Result, error) {
	g, ctx := errgroup.WithContext(ctx)
	var out Result
	var failed error
	ended, end := context.WithCancel(ctx)
	defer end()
	g.Go(func() error {
		defer end()
		defer o.trimmer.built()
		resp, err := o.control.Solve(ctx, req)
		if err != nil {
			failed = plain(err)
			return failed
		}
		out.Digest = resp.ExporterResponse["containerimage.digest"]
		if names := resp.ExporterResponse["image.name"]; names != "" {
			out.Names = strings.Split(names, ",")
		}
		return nil
	})
	g.Go(func() error {
		err := o.control.Status(&controlapi.StatusRequest{Ref: req.Ref}, &statusStream{ctx: ctx, told: told})
		if ended.Err() != nil {
			return nil // the build's own error is the one to tell
		}
		return err
	})
	if err := g.Wait(); err != nil {
		if failed != nil {
			return Result{}, failed
		}
		return Result{}, err
	}
	return out, nil
}

// ExitError says that the program of a step has ended with another code than 0.
type ExitError struct {
	// Command is what ran, with spaces between the words.
	Command string
	Code    int
	error
}

// failedStep is how BuildKit words it; the command is quoted.
var failedStep = regexp.MustCompile(`process ("(?:[^"\\]|\\.)*") did not complete successfully`)

// plain takes the words of gRPC off an error.
func plain(err error) error {
	text := plainText(err)
	var ended *gateway.ExitError
	if m := failedStep.FindStringSubmatch(text.Error()); m != nil && errors.As(err, &ended) {
		if command, uerr := strconv.Unquote(m[1]); uerr == nil {
			return &ExitError{Command: command, Code: int(ended.ExitCode), error: text}
		}
	}
	return text
}

func plainText(err error) error {
	if st, ok := status.FromError(err); ok && st.Message() != "" {
		text := errors.New(st.Message())
		if errdefs.IsCanceled(err) {
			return errors.Join(text, context.Canceled)
		}
		return text
	}
	return err
}

// statusStream takes what the solver would send to a client.
type statusStream struct {
	ctx  context.Context
	told Listener
}

func (s *statusStream) Context() context.Context { return s.ctx }

func (s *statusStream) Send(m *controlapi.StatusResponse) error {
	return s.told.Progress(toProgress(m))
}

func (s *statusStream) SendMsg(m any) error {
	if r, ok := m.(*controlapi.StatusResponse); ok {
		return s.Send(r)
	}
	return nil
}

func (s *statusStream) RecvMsg(any) error            { return io.EOF }
func (s *statusStream) SetHeader(metadata.MD) error  { return nil }
func (s *statusStream) SendHeader(metadata.MD) error { return nil }
func (s *statusStream) SetTrailer(metadata.MD)       {}
