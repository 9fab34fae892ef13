package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/orlop/orlop/test/e2e"
)

// receiver takes webhooks.
type receiver struct {
	t       *testing.T
	address string

	mu     sync.Mutex
	got    []string // tags, in order
	status int      // what it answers; 0 is 200
	tries  int
}

// ServeHTTP checks the signature and keeps what is told.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	at, sum, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("X-Orlop-Signature"), "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte("hook's secret"))
	mac.Write([]byte(at + "." + string(body)))
	if hex.EncodeToString(mac.Sum(nil)) != sum {
		r.t.Errorf("a signature is wrong: %s", body)
	}
	var told struct {
		Events []struct{ Action, Repository, Tag string }
	}
	if err := json.Unmarshal(body, &told); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tries++; r.status != 0 {
		w.WriteHeader(r.status)
		return
	}
	for _, e := range told.Events {
		r.got = append(r.got, e.Action+" "+e.Tag)
	}
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) seen() (got []string, tries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got), r.tries
}

// listen opens the receiver's door, and returns what closes it.
func (r *receiver) listen() (end func()) {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	srv := &http.Server{Handler: r}
	go srv.Serve(l)
	return func() { srv.Close() }
}

// A receiver that is away, or fails, is told later and in order; one that is slow holds
// up no push; the events after a kill come, too.
func TestWebhooks(t *testing.T) {
	r := &receiver{t: t, address: e2e.FreeAddress(t)}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := serve(t, fmt.Sprintf("[plugins.\"io.containerd.server.v1.registry\"]\nwebhooks = [{url = \"http://%s/\", secret = \"@DIR@/secret\", repositories = [\"team/*\"]}, {url = \"http://%s/\"}]\n", r.address, silent.Addr()),
		"secret", "hook's secret\n")
	push := func(tags ...string) {
		t.Helper()
		for _, tag := range tags {
			if err := d.put(http.DefaultClient, "/v2/team/box/manifests/"+tag); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func(want ...string) {
		t.Helper()
		eventually(t, fmt.Sprint("told are ", want), func() bool { got, _ := r.seen(); return slices.Equal(got, want) })
	}
	push("1", "2") // nobody listens yet
	if err := d.put(http.DefaultClient, "/v2/other/box/manifests/9"); err != nil {
		t.Fatal(err)
	}
	end := r.listen()
	told("push 1", "push 2")
	r.answer(http.StatusServiceUnavailable)
	push("3")
	eventually(t, "it was tried again", func() bool { _, tries := r.seen(); return tries >= 3 })
	r.answer(0)
	told("push 1", "push 2", "push 3")
	end()
	d.kill()
	d.start()
	end = r.listen()
	defer end()
	push("4")
	if code, _, text := d.ask("DELETE", "/v2/team/box/manifests/4", nil); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, text)
	}
	told("push 1", "push 2", "push 3", "push 4", "delete 4")
}
