package hook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	services "github.com/orlop/orlop/services/registry"
)

// receiver keeps what it took; fail answers the first requests with a status.
type receiver struct {
	*httptest.Server
	tries  atomic.Int32
	events chan services.Event
}

func receive(t *testing.T, secret string, status func(try int32) int) *receiver {
	r := &receiver{events: make(chan services.Event, 10*maxQueue)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if code := status(r.tries.Add(1)); code != 200 {
			w.WriteHeader(code)
			return
		}
		body, _ := io.ReadAll(req.Body)
		at, sum, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("X-Orlop-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at + "." + string(body)))
		if hex.EncodeToString(mac.Sum(nil)) != sum {
			t.Errorf("signature %q of %s", req.Header.Get("X-Orlop-Signature"), body)
		}
		var got struct{ Events []services.Event }
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		for _, e := range got.Events {
			r.events <- e
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func open(t *testing.T, cfg Config) *Sender {
	cfg.Secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(cfg.Secret, []byte("shh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.wait = time.Millisecond
	t.Cleanup(func() { s.Close() })
	return s
}

func (r *receiver) next(t *testing.T) services.Event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event came")
		panic("unreachable")
	}
}

func TestEventsComeInOrderAndAgain(t *testing.T) {
	r := receive(t, "shh", func(try int32) int {
		if try <= 3 {
			return 503
		}
		return 200
	})
	s := open(t, Config{URL: r.URL, Repositories: []string{"a/*"}})
	for _, e := range []services.Event{{Kind: "push", Repository: "a/1"}, {Kind: "pull", Repository: "a/2"}, {Kind: "push", Repository: "b"}, {Kind: "delete", Repository: "a/3"}} {
		s.Listen(e)
	}
	if a, b := r.next(t), r.next(t); a.Repository != "a/1" || b.Repository != "a/3" || b.Kind != "delete" {
		t.Errorf("%v, %v came", a, b)
	}
	if n := r.tries.Load(); n < 4 {
		t.Errorf("%d tries", n)
	}
}

func TestRefusedIsNotSentAgain(t *testing.T) {
	r := receive(t, "shh", func(try int32) int {
		if try == 1 {
			return 400
		}
		return 200
	})
	s := open(t, Config{URL: r.URL})
	s.Listen(services.Event{Kind: "push", Repository: "first"})
	for range 1000 {
		if _, dropped := s.Figures(); dropped == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Listen(services.Event{Kind: "push", Repository: "second"})
	if e := r.next(t); e.Repository != "second" {
		t.Errorf("%v came", e)
	}
}

// A receiver that hangs costs the registry nothing, and the queue stays bounded.
func TestSlowReceiverBlocksNothing(t *testing.T) {
	hang := make(chan struct{})
	r := receive(t, "shh", func(int32) int { <-hang; return 500 })
	defer close(hang)
	s := open(t, Config{URL: r.URL, Events: []string{"push"}})
	for range 3 * maxQueue {
		s.Listen(services.Event{Kind: "push", Repository: "a"}) // would block for ever
	}
	if _, dropped := s.Figures(); dropped < maxQueue {
		t.Errorf("%d dropped, %d are waiting", dropped, len(s.queue))
	}
}

func TestMistakes(t *testing.T) {
	for want, cfg := range map[string]Config{"no address": {URL: "ftp://x"}, "none of push": {URL: "http://x", Events: []string{"fly"}},
		"no such file": {URL: "http://x", Secret: "/nonexistent/secret"}} {
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
