package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/registry"
)

// fetchTries is how often a blob's connection may break.
const fetchTries = 5

// blob sends a blob that isn't here while it comes in. It returns false for one that is
// here, or that was waited for.
func (c *cache) blob(q *request, u *Upstream, dgst digest.Digest) (bool, error) {
	c.touch(dgst)
	_, err := c.r.Catalog.Blob(q.Context(), q.repo, dgst)
	if err == nil || !errdefs.IsNotFound(err) {
		return false, err
	}
	size, err := c.size(q.Context(), q.repo, dgst)
	if err != nil {
		return false, explain(err, codeBlobUnknown)
	}
	h := q.w.Header()
	h.Set("Docker-Content-Digest", dgst.String())
	h.Set("Content-Type", "application/octet-stream")
	if q.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
		q.w.WriteHeader(http.StatusOK)
		return true, nil
	}
	s, err := c.fetch(q.Context(), u, q.repo, dgst, size)
	if err != nil || s == nil {
		return false, err
	}
	defer s.leave()
	if q.Header.Get("Range") != "" {
		return false, s.wait(q.Context()) // then it is here
	}
	return c.stream(q, s)
}

// stream sends what has come in, as it comes.
func (c *cache) stream(q *request, s *spool) (bool, error) {
	defer context.AfterFunc(q.Context(), s.wake)()
	buf := make([]byte, 256<<10)
	for off := int64(0); ; {
		n, err := s.readAt(q.Context(), buf, off)
		if err == io.EOF {
			return true, nil
		}
		if err != nil && off == 0 {
			return false, explain(err, codeBlobUnknown)
		}
		if err != nil { // too late to say so: the client sees that the blob isn't whole
			panic(http.ErrAbortHandler)
		}
		if off == 0 {
			q.w.Header().Set("Content-Length", strconv.FormatInt(s.size, 10))
		}
		if _, err := q.w.Write(buf[:n]); err != nil {
			return true, nil
		}
		off += int64(n)
	}
}

// spool is a blob that is coming in. Its last byte is held back until the whole was
// verified, so that nobody gets a whole wrong one.
type spool struct {
	size int64
	file *os.File

	mu    sync.Mutex // guards what is below
	cond  *sync.Cond
	n     int64
	done  bool
	err   error
	users int // the fetch is one
}

// fetch begins to bring a blob, or joins those who wait for it. It returns nil for one
// that has come meanwhile: what is linked is linked before it is no longer coming.
func (c *cache) fetch(ctx context.Context, u *Upstream, repo string, dgst digest.Digest, size int64) (*spool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.coming[dgst]; s != nil && s.join() {
		return s, nil
	}
	if _, err := c.r.Catalog.Blob(ctx, repo, dgst); err == nil || !errdefs.IsNotFound(err) {
		return nil, err
	}
	f, err := os.CreateTemp(c.cfg.Temp, "orlop-cache-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil { // it goes with the last who has it open
		f.Close()
		return nil, err
	}
	s := &spool{size: size, file: f, users: 2}
	s.cond = sync.NewCond(&s.mu)
	c.coming[dgst] = s
	c.r.work.Go(func() {
		defer s.leave()
		err := c.bring(u, repo, dgst, s)
		c.mu.Lock()
		delete(c.coming, dgst)
		c.mu.Unlock()
		s.end(err)
		if err != nil && c.ctx.Err() == nil {
			log.G(c.ctx).WithError(err).Warnf("registry: blob %s of %s could not be fetched", dgst, repo)
		}
	})
	return s, nil
}

// bring fetches, stores and links a blob.
func (c *cache) bring(u *Upstream, repo string, dgst digest.Digest, s *spool) error {
	ctx, cancel := context.WithTimeout(c.ctx, fetchLimit)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, end, err := c.r.held(ctx)
	if err != nil {
		return err
	}
	defer end()
	name := "registry/cache/" + newUpload()
	w, err := c.r.Blobs.Writer(ctx, content.WriterOptions{Ref: name, Descriptor: descriptor(dgst, s.size)})
	switch {
	case errdefs.IsAlreadyExists(err):
		err = c.borrow(ctx, u, repo, dgst, s)
	case err == nil:
		err = c.into(ctx, u, repo, dgst, s, w)
		w.Close()
		if err != nil && !errdefs.IsAlreadyExists(err) {
			c.r.Blobs.Abort(context.WithoutCancel(ctx), name)
		}
	}
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	if _, err := c.r.Catalog.LinkBlob(ctx, repo, dgst); err != nil {
		return err
	}
	return c.evict(ctx, dgst)
}

// into writes what comes to the store and to those who wait, over connections that may
// break.
func (c *cache) into(ctx context.Context, u *Upstream, repo string, dgst digest.Digest, s *spool, w content.Writer) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset > 0 { // another namespace has it: its bytes needn't be fetched
		if err := w.Commit(ctx, s.size, dgst, nil); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
		return c.borrow(ctx, u, repo, dgst, s)
	}
	for try := 1; ; try++ {
		body, err := u.Client.Blob(ctx, u.reference(repo, ""), descriptor(dgst, s.size), s.n)
		if err == nil {
			_, err = io.Copy(io.MultiWriter(onlyWriter{w}, s), io.LimitReader(body, s.size-s.n+1))
			body.Close()
		}
		switch {
		case s.n == s.size:
			return w.Commit(ctx, s.size, dgst, nil)
		case s.n > s.size, err != nil && errdefs.IsNotFound(err), ctx.Err() != nil, try == fetchTries:
			return fmt.Errorf("blob %s: %d of %d bytes came: %w", dgst, s.n, s.size, orUnavailable(err))
		}
		time.Sleep(time.Duration(try) * 100 * time.Millisecond)
	}
}

func orUnavailable(err error) error {
	if err == nil {
		return errdefs.ErrUnavailable
	}
	return err
}

// borrow takes what the store has already, if the upstream has it too: a manifest may
// name anything, and must not open what others keep here.
func (c *cache) borrow(ctx context.Context, u *Upstream, repo string, dgst digest.Digest, s *spool) error {
	body, err := u.Client.Blob(ctx, u.reference(repo, ""), descriptor(dgst, s.size), 0)
	if err != nil {
		return err
	}
	body.Close()
	return s.copyFrom(ctx, c.r, dgst)
}

// copyFrom takes what the store has.
func (s *spool) copyFrom(ctx context.Context, r *Registry, dgst digest.Digest) error {
	b, err := r.open(ctx, dgst)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(s, io.NewSectionReader(b, 0, b.Size()))
	return err
}

// Write takes what comes; only the fetch calls it.
func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(n)
	s.cond.Broadcast()
	return n, err
}

func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.err = true, err
	s.cond.Broadcast()
}

func (s *spool) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

// join adds one who waits; false is too late.
func (s *spool) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		return false
	}
	s.users++
	return true
}

func (s *spool) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.file.Close()
	}
}

// ready is how much may be read.
func (s *spool) ready() int64 {
	if s.done && s.err == nil {
		return s.n
	}
	return min(s.n, s.size-1)
}

// readAt waits for bytes. The caller wakes it when the context ends.
func (s *spool) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	s.mu.Lock()
	for s.ready() <= off && !s.done && ctx.Err() == nil {
		s.cond.Wait()
	}
	n, done, err := s.ready(), s.done, s.err
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case n > off:
		return s.file.ReadAt(p[:min(int64(len(p)), n-off)], off)
	case err != nil:
		return 0, err
	case done:
		return 0, io.EOF
	}
	return 0, io.ErrNoProgress
}

// wait waits for the whole.
func (s *spool) wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.wake)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done && ctx.Err() == nil {
		s.cond.Wait()
	}
	if s.err != nil {
		return explain(s.err, codeBlobUnknown)
	}
	return ctx.Err()
}

// touch notes that a blob is read.
func (c *cache) touch(dgst digest.Digest) {
	if c.cfg.Bytes == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.read) >= maxChecked {
		clear(c.read)
	}
	c.read[dgst] = time.Now()
}

// lastRead is when a blob was read; since the start, or when it came.
func (c *cache) lastRead(b registry.Blob) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.read[b.Digest]; ok {
		return at
	}
	return b.Linked
}
