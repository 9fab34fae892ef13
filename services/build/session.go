package build

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNoAuthority makes the solver fetch tokens itself.
var errNoAuthority = status.Error(codes.Unimplemented, "no token authority")

// offer is a session of the daemon's own, for clients without one: it carries the
// context that came in the request's body, and credentials.
type offer struct {
	session *session.Session
	url     string // where the context is, for the solver
	body    *upload
	done    chan error
	after   func() error // when it is closed; may be nil
}

// offered opens one. Close it when the build has ended.
func (o *opened) offered(ctx context.Context, body io.ReadCloser, auths map[string]Auth, more ...session.Attachable) (*offer, error) {
	s, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, err
	}
	out := &offer{session: s, done: make(chan error, 1)}
	uploads := uploadprovider.New()
	if body != nil {
		out.body = &upload{ReadCloser: body}
		out.url = uploads.Add(out.body)
	}
	s.Allow(uploads)
	s.Allow(credentials(auths))
	for _, a := range more {
		s.Allow(a)
	}
	dial := func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
		near, far := net.Pipe()
		go o.sessions.HandleConn(ctx, far, meta)
		return near, nil
	}
	go func() { out.done <- s.Run(ctx, dial) }()
	return out, nil
}

// upload is a context on its way to the solver, who closes it when it has read it. It may
// never ask for it, as when the Dockerfile is wrong.
type upload struct {
	io.ReadCloser
	taken atomic.Bool
	once  sync.Once
}

// Read takes it.
func (u *upload) Read(p []byte) (int, error) {
	u.taken.Store(true)
	return u.ReadCloser.Read(p)
}

// Close closes it once: by who read it, or by drop.
func (u *upload) Close() (err error) {
	u.once.Do(func() { err = u.ReadCloser.Close() })
	return err
}

// drop closes one that nobody has taken, when nobody can any more.
func (u *upload) drop() {
	if !u.taken.Load() {
		u.Close()
	}
}

func (f *offer) close() {
	f.session.Close()
	<-f.done
	if f.body != nil {
		f.body.drop()
	}
	if f.after != nil {
		_ = f.after() // the folder for temporary files is swept
	}
}

// credentials answer the solver's questions for them.
type credentials map[string]Auth

// Register implements the attachable.
func (c credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// hub are the names of Docker's own registry.
var hub = []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}

// Credentials returns those of a host; empty where there are none.
func (c credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	hosts := []string{r.Host, "https://" + r.Host, "http://" + r.Host, "https://" + r.Host + "/v1/"}
	if r.Host == "docker.io" || strings.HasSuffix(r.Host, ".docker.io") {
		hosts = append(hosts, hub...)
	}
	for _, h := range hosts {
		if a, ok := c[h]; ok {
			return &auth.CredentialsResponse{Username: a.User, Secret: a.Secret}, nil
		}
	}
	return &auth.CredentialsResponse{}, nil
}

// FetchToken leaves tokens to the solver.
func (c credentials) FetchToken(context.Context, *auth.FetchTokenRequest) (*auth.FetchTokenResponse, error) {
	return nil, errNoAuthority
}

// GetTokenAuthority leaves tokens to the solver.
func (c credentials) GetTokenAuthority(context.Context, *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return nil, errNoAuthority
}

// VerifyTokenAuthority leaves tokens to the solver.
func (c credentials) VerifyTokenAuthority(context.Context, *auth.VerifyTokenAuthorityRequest) (*auth.VerifyTokenAuthorityResponse, error) {
	return nil, errNoAuthority
}
