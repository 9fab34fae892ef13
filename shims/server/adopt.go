package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"

	"github.com/orlop/orlop/internal/safefile"
	"github.com/orlop/orlop/runtime"
)

// exitFile in a bundle tells how the container ended.
const exitFile = "exit.json"

type exitRecord struct {
	Code uint32    `json:"code"`
	At   time.Time `json:"at"`
}

func writeExit(bundle string, e exit) error {
	data, err := json.Marshal(exitRecord{e.code, e.at})
	if err != nil {
		return err
	}
	err = safefile.Replace(filepath.Join(bundle, exitFile), data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the bundle is gone: nobody will ask
	}
	return err
}

func readExit(bundle string) (exit, bool) {
	data, err := os.ReadFile(filepath.Join(bundle, exitFile))
	if err != nil {
		return exit{}, false
	}
	var r exitRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return exit{}, false
	}
	return exit{r.Code, r.At}, true
}

// requestFile in a bundle is the request that its container was made by.
const requestFile = "create.pb"

func writeRequest(r *wire.CreateTaskRequest) error {
	data, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	return safefile.Replace(filepath.Join(r.Bundle, requestFile), data, 0o600)
}

func readRequest(bundle string) (*wire.CreateTaskRequest, error) {
	data, err := os.ReadFile(filepath.Join(bundle, requestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r := &wire.CreateTaskRequest{}
	return r, proto.Unmarshal(data, r)
}

// Adopt takes over a container of a shim that has died. The request names it and
// its bundle; its options may hold a WaitResponse, which tells how it ended where
// the caller saw it. NotFound says that there is nothing to adopt: the container
// was never made, or was deleted.
func (s *Service) Adopt(ctx context.Context, r *wire.CreateTaskRequest) (*wire.CreateTaskResponse, error) {
	known, err := knownEnd(r)
	if err != nil {
		return nil, err
	}
	made, err := readRequest(r.Bundle)
	if err != nil {
		return nil, err
	}
	c, err := s.reserve(ctx, made)
	if err != nil {
		return nil, err
	}
	rc, err := s.load(c, made)
	if err != nil {
		s.forget(c)
		close(c.ready)
		return nil, classify(err)
	}
	b := &adopted{embedded{rc}, known}
	c.init.set(statusOf(rc))
	if c.init.streams, err = reopen(c); err != nil {
		log.L.WithError(err).Warnf("container %s: its standard input is lost", c.id)
	}
	c.init.run = b
	s.keep(c, b)
	go s.watch(c, c.init)
	return &wire.CreateTaskResponse{Pid: uint32(b.pid())}, nil
}

func (s *Service) load(c *container, made *wire.CreateTaskRequest) (*runtime.Container, error) {
	opts, err := readOptions[options.Options](made.Options, "runtime")
	if err != nil {
		return nil, err
	}
	if opts.BinaryName != "" {
		return nil, fmt.Errorf("container %q is held by %s, which can't be adopted: %w", c.id, opts.BinaryName, errdefs.ErrNotImplemented)
	}
	rt, err := s.runtime(runtimeRoot(c.key, c.bundle, opts), opts)
	if err != nil {
		return nil, err
	}
	return rt.Load(c.id)
}

// knownEnd is how a container ended, from the request or the bundle; nil if
// nobody saw it end.
func knownEnd(r *wire.CreateTaskRequest) (*exit, error) {
	if r.Options.GetTypeUrl() == "" {
		if e, ok := readExit(r.Bundle); ok {
			return &e, nil
		}
		return nil, nil
	}
	v, err := typeurl.UnmarshalAny(r.Options)
	if err != nil {
		return nil, fmt.Errorf("options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	w, ok := v.(*wire.WaitResponse)
	if !ok {
		return nil, fmt.Errorf("options are %T: %w", v, errdefs.ErrInvalidArgument)
	}
	return &exit{w.ExitStatus, w.ExitedAt.AsTime()}, nil
}

func statusOf(c *runtime.Container) task.Status {
	switch c.Status() {
	case runtime.Created:
		return task.Status_CREATED
	case runtime.Paused:
		return task.Status_PAUSED
	}
	return task.Status_RUNNING // an ended one is noticed at once by who waits
}

// reopen holds the ends of fifos again, and goes on recording. A terminal's master
// went with the shim.
func reopen(c *container) (*streams, error) {
	s, e := &streams{}, c.init.ends
	if e.terminal {
		return s, nil
	}
	if _, err := s.openLog(filepath.Join(c.bundle, "init"), e); err != nil {
		return s, err
	}
	s.handedOver()
	var err error
	s.std.in, s.keep, err = openIn(e.in)
	return s, err
}

// adopted is a container whose end may be known already.
type adopted struct {
	embedded
	known *exit
}

func (a *adopted) wait() exit {
	if a.known != nil {
		return *a.known
	}
	return a.embedded.wait()
}
