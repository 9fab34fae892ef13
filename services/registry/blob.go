package registry

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/registry"
)

// getBlob sends a blob, or the part of it that is asked for (RFC 9110, section 14).
func (r *Registry) getBlob(q *request) error {
	dgst, err := readDigest(q.ref)
	if err != nil {
		return err
	}
	if done, err := r.neighbour(q, "blobs"); done || err != nil {
		return err
	}
	if u := r.cache.upstream(q.repo); u != nil {
		if done, err := r.cache.blob(q, u, dgst); done || err != nil {
			return err
		}
	}
	known, err := r.Catalog.Blob(q.Context(), q.repo, dgst)
	switch {
	case err == nil:
		r.refresh(q, known)
	case !errdefs.IsNotFound(err) || !r.adopt(q, dgst):
		return explain(err, codeBlobUnknown)
	}
	if done, err := r.redirect(q, dgst); err != nil {
		return explain(err, codeBlobUnknown)
	} else if done {
		return nil
	}
	blob, err := r.open(q.Context(), dgst)
	if err != nil {
		return explain(err, codeBlobUnknown)
	}
	defer blob.Close()
	h := q.w.Header()
	h.Set("Docker-Content-Digest", dgst.String())
	h.Set("Etag", `"`+dgst.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	return send(q, blob)
}

// send lets http.ServeContent do ranges and conditions; a file that shows through is
// sent by the kernel (sendfile(2)).
func send(q *request, blob content.ReaderAt) error {
	if q.Method == http.MethodHead && q.Header.Get("Range") == "" {
		q.w.Header().Set("Content-Length", strconv.FormatInt(blob.Size(), 10))
		q.w.WriteHeader(http.StatusOK)
		return nil
	}
	var in io.ReadSeeker = io.NewSectionReader(blob, 0, blob.Size())
	if f, ok := blob.(interface {
		io.ReadSeeker
		Stat() (os.FileInfo, error)
	}); ok {
		in = f
	}
	http.ServeContent(q.w, q.Request, "", noTime, in)
	return nil
}

// refresh makes the link of a blob young again for somebody who may be about to push
// a manifest that needs it: a client that is told that a blob is there relies on it.
// It does so at most twice in a grace.
func (r *Registry) refresh(q *request, b registry.Blob) {
	if r.cfg.ReadOnly || q.Method != http.MethodHead || time.Since(b.Linked) < r.cfg.Grace/2 || !q.who.May(Access{Repository: q.repo, Action: Push}) {
		return
	}
	if _, err := r.Catalog.LinkBlob(r.in(q.Context()), q.repo, b.Digest); err != nil {
		log.G(q.Context()).WithError(err).Warnf("registry: blob %s of repository %s", b.Digest, q.repo)
	}
}

// deleteBlob takes a blob from the repository.
func (r *Registry) deleteBlob(q *request) error {
	dgst, err := readDigest(q.ref)
	if err != nil {
		return err
	}
	if err := r.Catalog.UnlinkBlob(q.Context(), q.repo, dgst); err != nil {
		return explain(err, codeBlobUnknown)
	}
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}
