// Package hook tells others by HTTP what happens in a registry.
//
// Each receiver has a queue and a worker of its own, so that a slow one holds up
// neither the registry nor the others. Events of one receiver arrive in order. What a
// receiver refuses is sent again, later and later; when its queue is full, or the
// tries are used up, events are dropped and counted. The queue is in memory: what
// wasn't sent when the daemon ends is lost.
//
// The body is {"events":[…]} with the events of the registry. With a secret, the
// header X-Orlop-Signature is "t=SECONDS,v1=HEX": the HMAC-SHA256 of SECONDS, a dot,
// and the body, so that a receiver can refuse what is forged or old.
package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/core/registry"
	services "github.com/orlop/orlop/services/registry"
)

// Config is one receiver.
type Config struct {
	// URL is where events are sent to.
	URL string `toml:"url"`
	// Secret is a file with what events are signed with; empty is unsigned.
	Secret string `toml:"secret"`
	// Events are the kinds to send: push, pull, delete; empty is push and delete.
	Events []string `toml:"events"`
	// Repositories are patterns; empty is all.
	Repositories []string `toml:"repositories"`
}

// Bounds of sending.
const (
	maxQueue  = 1000
	maxBatch  = 100
	maxTries  = 8
	firstWait = time.Second // doubles with each try, so the last comes after two minutes
	maxSecret = 4096        // bytes
	sendWait  = 10 * time.Second
)

// Sender sends to one receiver. It is safe for concurrent use.
type Sender struct {
	url    string
	secret []byte
	kinds  []string
	repos  registry.Patterns
	client *http.Client
	wait   time.Duration

	queue         chan services.Event
	sent, dropped atomic.Int64
	stop          context.CancelFunc
	work          sync.WaitGroup
}

// Open starts a sender.
func Open(cfg Config) (*Sender, error) {
	s := &Sender{url: cfg.URL, kinds: cfg.Events, queue: make(chan services.Event, maxQueue), wait: firstWait,
		client: &http.Client{Timeout: sendWait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("url: %q is no address of HTTP", cfg.URL)
	}
	if len(s.kinds) == 0 {
		s.kinds = []string{services.EventPush, services.EventDelete}
	}
	for _, k := range s.kinds {
		if k != services.EventPush && k != services.EventPull && k != services.EventDelete {
			return nil, fmt.Errorf("events: %q is none of push, pull and delete", k)
		}
	}
	if s.repos, err = registry.ParsePatterns(cfg.Repositories); err != nil {
		return nil, err
	}
	if cfg.Secret != "" {
		if s.secret, err = readSecret(cfg.Secret); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { s.run(ctx) })
	return s, nil
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if data = bytes.TrimSpace(data); err == nil && len(data) == 0 {
		err = fmt.Errorf("secret: %s is empty", path)
	}
	return data, err
}

// Close stops sending.
func (s *Sender) Close() error {
	s.stop()
	s.work.Wait()
	return nil
}

// Figures tells how many events were sent and how many dropped.
func (s *Sender) Figures() (sent, dropped int64) { return s.sent.Load(), s.dropped.Load() }

// URL is where events go, without a password that may be in it.
func (s *Sender) URL() string {
	u, _ := url.Parse(s.url)
	return u.Redacted()
}

// Listen takes an event, and never blocks.
func (s *Sender) Listen(e services.Event) {
	if !slices.Contains(s.kinds, e.Kind) || len(s.repos) > 0 && !s.repos.Match(e.Repository) {
		return
	}
	select {
	case s.queue <- e:
	default:
		if s.dropped.Add(1)%maxQueue == 1 {
			log.L.Warnf("registry: events for %s are dropped: %d are waiting", s.URL(), maxQueue)
		}
	}
}

func (s *Sender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.queue:
			s.deliver(ctx, s.more(e))
		}
	}
}

// more takes what else is waiting into one request.
func (s *Sender) more(e services.Event) []services.Event {
	batch := []services.Event{e}
	for len(batch) < maxBatch {
		select {
		case next := <-s.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// deliver tries until it is taken, or for the last time.
func (s *Sender) deliver(ctx context.Context, batch []services.Event) {
	body, err := json.Marshal(map[string]any{"events": batch})
	wait := s.wait
	for try := 1; err == nil; try++ {
		if err = s.post(ctx, body); err == nil {
			s.sent.Add(int64(len(batch)))
			return
		}
		if errors.Is(err, errRefused) || try == maxTries || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			err = nil
		}
		wait *= 2
	}
	s.dropped.Add(int64(len(batch)))
	if ctx.Err() == nil {
		log.L.WithError(err).Warnf("registry: %d events for %s are dropped", len(batch), s.URL())
	}
}

var errRefused = errors.New("the receiver doesn't want them")

func (s *Sender) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "orlop-registry")
	if s.secret != nil {
		req.Header.Set("X-Orlop-Signature", sign(s.secret, time.Now().Unix(), body))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	switch c := resp.StatusCode; {
	case c >= 200 && c < 300:
		return nil
	case c == http.StatusRequestTimeout, c == http.StatusTooManyRequests, c >= 500:
		return fmt.Errorf("the receiver answers %s", resp.Status)
	}
	return fmt.Errorf("%w: it answers %s", errRefused, resp.Status)
}

func sign(secret []byte, seconds int64, body []byte) string {
	at := strconv.FormatInt(seconds, 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
