package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/internal/voucher"
	"github.com/orlop/orlop/services/manifest"
)

const (
	// chunkSize is how many bytes go in one request when a registry doesn't take
	// a blob whole; one may ask for more (OCI-Chunk-Min-Length).
	chunkSize = 16 << 20
	// maxChunk bounds what a registry may ask for.
	maxChunk = 1 << 30
	// uploadTries is how often an upload goes on after a failure without a byte
	// of progress.
	uploadTries = 5
	// uploadPause is how long the first of them waits; each further one twice
	// as long.
	uploadPause = 100 * time.Millisecond
)

// Pusher sends to one endpoint of a registry. It is safe for concurrent use.
type Pusher struct {
	c   *Client
	e   endpoint
	ref Reference
	// Voucher, where set, tells the registry of this process that the blobs are held.
	Voucher *voucher.Voucher
}

// Pusher chooses the endpoint that everything of one image goes to.
func (c *Client) Pusher(ref Reference) (*Pusher, error) {
	all, err := c.endpoints(ref.Host)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.does("push") {
			return &Pusher{c: c, e: e, ref: ref}, nil
		}
	}
	return nil, noHost(ref.Host, "push")
}

func (p *Pusher) scope() string { return "repository:" + p.ref.Repository + ":pull,push" }

func (p *Pusher) do(ctx context.Context, cl call) (*http.Response, error) {
	cl.ref = p.ref
	if cl.scope == "" {
		cl.scope = p.scope()
	}
	return p.c.do(ctx, p.e, cl)
}

// Has asks whether the registry has a blob, a manifest, or a tag that points at
// just this manifest.
func (p *Pusher) Has(ctx context.Context, desc ocispec.Descriptor, tag string) (bool, error) {
	path := p.ref.Repository + "/blobs/" + desc.Digest.String()
	h := http.Header{}
	if manifest.IsIndex(desc.MediaType) || manifest.IsManifest(desc.MediaType) {
		path = p.ref.Repository + "/manifests/" + desc.Digest.String()
		if tag != "" {
			path = p.ref.Repository + "/manifests/" + tag
		}
		h.Set("Accept", desc.MediaType+", */*;q=0.1")
	} else if p.Voucher != nil {
		h.Set(voucher.Header, p.Voucher.Word(p.e.base.Host, p.ref.Repository, desc.Digest))
	}
	resp, err := p.do(ctx, call{method: http.MethodHead, path: path, header: h})
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return false, nil
	case resp.StatusCode != http.StatusOK:
		return false, failure(path, resp)
	case tag != "":
		return resp.Header.Get("Docker-Content-Digest") == desc.Digest.String(), nil
	}
	return resp.ContentLength < 0 || resp.ContentLength == desc.Size, nil
}

// Manifest puts a manifest, under the tag if there is one, else its digest.
func (p *Pusher) Manifest(ctx context.Context, desc ocispec.Descriptor, body []byte, tag string) error {
	object := tag
	if object == "" {
		object = desc.Digest.String()
	}
	what := fmt.Sprintf("put manifest %s of %s at %s", object, p.ref.Repository, p.e.base.Host)
	resp, err := p.do(ctx, call{
		method: http.MethodPut, path: p.ref.Repository + "/manifests/" + object,
		header: http.Header{"Content-Type": {desc.MediaType}}, size: int64(len(body)),
		body: func() io.Reader { return strings.NewReader(string(body)) },
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return failure(what, resp)
	}
	drain(resp)
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != desc.Digest.String() {
		return fmt.Errorf("%s: the registry took it for %.200q: %w", what, got, errdefs.ErrDataLoss)
	}
	return nil
}

// Blob sends a blob, of which open reads n bytes from offset on. With a
// repository of the same registry that has it, mounting is tried first; the
// result tells whether that went well.
func (p *Pusher) Blob(ctx context.Context, desc ocispec.Descriptor, from string, open func(offset, n int64) io.Reader) (mounted bool, err error) {
	what := fmt.Sprintf("push blob %s to %s at %s", desc.Digest, p.ref.Repository, p.e.base.Host)
	u := &upload{Pusher: p, desc: desc, open: open}
	if mounted, err = u.begin(ctx, from); err != nil || mounted {
		return mounted, wrap(what, err)
	}
	return false, wrap(what, u.run(ctx))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// upload is a blob on its way.
type upload struct {
	*Pusher
	desc ocispec.Descriptor
	open func(offset, n int64) io.Reader
	at   *url.URL // where the registry wants the next request
	sent int64    // bytes that it has
	min  int64    // of a chunk
}

// begin starts a session, or mounts.
func (u *upload) begin(ctx context.Context, from string) (mounted bool, err error) {
	cl := call{method: http.MethodPost, path: u.ref.Repository + "/blobs/uploads/", body: func() io.Reader { return http.NoBody }}
	if from != "" {
		cl.path += "?" + url.Values{"mount": {u.desc.Digest.String()}, "from": {from}}.Encode()
		cl.scope = u.scope() + " repository:" + from + ":pull"
	}
	resp, err := u.do(ctx, cl)
	if from != "" && (errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err)) {
		return u.begin(ctx, "")
	}
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		drain(resp)
		if from == "" {
			return false, fmt.Errorf("the registry says it has a blob that it wasn't sent: %w", errdefs.ErrUnknown)
		}
		return true, nil
	case http.StatusAccepted:
		u.sent = 0
		return false, u.next(resp)
	}
	if from != "" { // it may not show that repository, or not know mounts
		drain(resp)
		return u.begin(ctx, "")
	}
	return false, failure("begin", resp)
}

// next notes what an answer says of the session.
func (u *upload) next(resp *http.Response) error {
	drain(resp)
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		u.min = n
	}
	if u.min > maxChunk {
		return fmt.Errorf("the registry wants chunks of %d bytes, at most %d are sent: %w", u.min, int64(maxChunk), errdefs.ErrOutOfRange)
	}
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return fmt.Errorf("the registry names no place to upload to: %w", errdefs.ErrUnknown)
	}
	if location.Scheme != "https" && (location.Scheme != "http" || u.e.base.Scheme == "https") {
		return fmt.Errorf("the registry wants an upload to %q: %w", location.Redacted(), errdefs.ErrPermissionDenied)
	}
	u.at = location
	return nil
}

// run sends the blob whole; if that fails in a way that leaves a session, it
// goes on where the registry stands, in chunks.
func (u *upload) run(ctx context.Context) error {
	err := u.whole(ctx)
	pause := uploadPause
	for try := 0; err != nil && resumable(err) && try < uploadTries; try++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
		before := u.sent
		if asked := u.ask(ctx); asked != nil {
			err = asked
			continue
		}
		if err = u.chunks(ctx); u.sent > before {
			try, pause = 0, uploadPause
		}
	}
	return err
}

// errChunks is a registry's wish for smaller requests.
var errChunks = errors.New("the registry doesn't take the blob whole")

func resumable(err error) bool {
	return errors.Is(err, errChunks) || errdefs.IsUnavailable(err) || errdefs.IsOutOfRange(err)
}

func (u *upload) whole(ctx context.Context) error {
	return u.finish(ctx, call{
		header: http.Header{"Content-Type": {"application/octet-stream"}}, size: u.desc.Size,
		body: func() io.Reader { return u.open(0, u.desc.Size) },
	})
}

// finish ends the session with the blob's digest.
func (u *upload) finish(ctx context.Context, cl call) error {
	at := *u.at
	at.RawQuery = strings.Trim(at.RawQuery+"&"+url.Values{"digest": {u.desc.Digest.String()}}.Encode(), "&")
	cl.method, cl.at = http.MethodPut, &at
	resp, err := u.do(ctx, cl)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		drain(resp)
		return nil
	case http.StatusOK, http.StatusNoContent: // not the spec's words: see whether they mean it
		drain(resp)
		if has, err := u.Has(ctx, u.desc, ""); err != nil || !has {
			return errors.Join(err, fmt.Errorf("the registry answers %s, but has no such blob: %w", resp.Status, errdefs.ErrUnknown))
		}
		return nil
	case http.StatusRequestEntityTooLarge, http.StatusRequestedRangeNotSatisfiable:
		drain(resp)
		return errChunks
	}
	return failure("upload", resp)
}

// ask finds out how far the registry is; a session it has forgotten begins anew.
func (u *upload) ask(ctx context.Context) error {
	resp, err := u.do(ctx, call{method: http.MethodGet, at: u.at})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusOK, http.StatusAccepted:
		if u.sent, err = received(resp, u.desc.Size); err != nil {
			drain(resp)
			return err
		}
		if resp.Header.Get("Location") == "" {
			drain(resp)
			return nil
		}
		return u.next(resp)
	case http.StatusNotFound:
		drain(resp)
		_, err := u.begin(ctx, "")
		return err
	}
	return failure("upload status", resp)
}

// received reads Range: 0-<last>, which by the spec can't tell one byte from none.
func received(resp *http.Response, size int64) (int64, error) {
	text := strings.TrimPrefix(resp.Header.Get("Range"), "bytes=")
	if text == "" {
		return 0, nil
	}
	from, last, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if from != "0" || err != nil || n < 0 || n >= size && n > 0 {
		return 0, fmt.Errorf("the registry says it has the bytes %.40q of %d: %w", text, size, errdefs.ErrUnknown)
	}
	if n == 0 {
		return 0, nil
	}
	return n + 1, nil
}

// chunks sends the rest and ends the session.
func (u *upload) chunks(ctx context.Context) error {
	for u.sent < u.desc.Size {
		offset, n := u.sent, min(max(chunkSize, u.min), u.desc.Size-u.sent)
		resp, err := u.do(ctx, call{
			method: http.MethodPatch, at: u.at, size: n,
			header: http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", offset, offset+n-1)}},
			body:   func() io.Reader { return u.open(offset, n) },
		})
		if err != nil {
			return err
		}
		switch resp.StatusCode {
		case http.StatusAccepted, http.StatusNoContent, http.StatusCreated:
		case http.StatusRequestedRangeNotSatisfiable:
			drain(resp)
			return fmt.Errorf("the registry doesn't go on at byte %d: %w", offset, errdefs.ErrOutOfRange)
		default:
			return failure("upload chunk", resp)
		}
		if err := u.next(resp); err != nil {
			return err
		}
		u.sent += n
	}
	return u.finish(ctx, call{body: func() io.Reader { return http.NoBody }})
}
