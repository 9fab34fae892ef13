package remote

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/containerd/errdefs"
)

func TestLogin(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.URL.Path != "/v2/" || user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	for _, tt := range []struct {
		user, password string
		ok             bool
	}{{"ann", "secret", true}, {"ann", "wrong", false}, {"", "", false}} {
		c := New(Config{Credentials: func(context.Context, Login) (Credentials, error) {
			return Credentials{Username: tt.user, Password: tt.password}, nil
		}})
		err := c.Login(t.Context(), s.Listener.Addr().String())
		if (err == nil) != tt.ok || err != nil && !errdefs.IsUnauthorized(err) {
			t.Errorf("%s %s: %v", tt.user, tt.password, err)
		}
	}
	s.Close()
	if err := New(Config{}).Login(t.Context(), s.Listener.Addr().String()); !errdefs.IsUnavailable(err) {
		t.Errorf("a registry that is away: %v", err)
	}
}
