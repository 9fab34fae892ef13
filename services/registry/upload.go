package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/registry"
)

var noTime time.Time

// uploadID is what this registry names uploads.
var uploadID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ref is the name of an upload's ingest. The repository is in it, so that an upload
// is found under its own only.
func ref(repo, id string) string { return "registry/" + repo + "/" + id }

// startUpload begins an upload, takes a whole blob, or mounts one.
func (r *Registry) startUpload(q *request) error {
	if text := q.args.Get("mount"); text != "" {
		mounted, err := r.mount(q, text)
		if err != nil || mounted {
			return err
		}
	}
	id := newUpload()
	if text := q.args.Get("digest"); text != "" {
		dgst, err := readDigest(text)
		if err != nil {
			return err
		}
		return r.whole(q, id, dgst)
	}
	if alg := q.args.Get("digest-algorithm"); alg != "" && !digest.Algorithm(alg).Available() {
		return fail(http.StatusBadRequest, codeUnsupported, "digest algorithm %.50q is not known", alg)
	}
	ctx := r.in(q.Context())
	if err := r.begin(ctx, q, id); err != nil {
		return err
	}
	w, err := r.Blobs.Writer(ctx, content.WriterOptions{Ref: ref(q.repo, id)})
	if err != nil {
		r.clients.end(ref(q.repo, id))
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	q.w.Header().Set("OCI-Chunk-Min-Length", "1")
	return q.accepted(id, 0, http.StatusAccepted)
}

// begin counts an upload of the client's.
func (r *Registry) begin(ctx context.Context, q *request, id string) error {
	err := r.clients.begin(q.client(), ref(q.repo, id), r.cfg.Bounds.Open, func(upload string) bool {
		_, err := r.Blobs.Status(ctx, upload)
		return !errdefs.IsNotFound(err)
	})
	if err != nil {
		return tooMany("%s has begun %d uploads, finish or cancel some first", q.client(), r.cfg.Bounds.Open)
	}
	return nil
}

func newUpload() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// accepted tells where an upload stands.
func (q *request) accepted(id string, offset int64, status int) error {
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-Uuid", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(offset-1, 0)))
	h.Set("Content-Length", "0")
	q.w.WriteHeader(status)
	return nil
}

// created tells where a blob is.
func (q *request) created(dgst digest.Digest) error {
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/blobs/"+dgst.String())
	h.Set("Docker-Content-Digest", dgst.String())
	h.Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

// mount links a blob of another repository that the caller may pull from, or, where
// the registry shares, one that [Registry.mayHave] allows.
func (r *Registry) mount(q *request, text string) (bool, error) {
	dgst, err := readDigest(text)
	if err != nil {
		return false, err
	}
	from := q.args.Get("from")
	allowed := r.mayHave(q, dgst)
	if from != "" {
		if err := registry.CheckName(from); err != nil {
			return false, fail(http.StatusBadRequest, codeNameInvalid, "%v", err)
		}
		if q.who.May(Access{Repository: from, Action: Pull}) {
			_, err := r.Catalog.Blob(q.Context(), from, dgst)
			if err != nil && !errdefs.IsNotFound(err) {
				return false, err
			}
			allowed = allowed || err == nil
		}
	}
	if !allowed {
		return false, nil // an upload begins instead, as if the blob weren't there
	}
	switch err := r.link(q, dgst); {
	case errdefs.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, q.created(dgst)
}

// share takes over a blob of another namespace without its bytes.
func (r *Registry) share(ctx context.Context, dgst digest.Digest) error {
	id := newUpload()
	w, err := r.Blobs.Writer(ctx, content.WriterOptions{Ref: "registry/share/" + id, Descriptor: ocispec.Descriptor{Digest: dgst}})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := w.Status()
	if err == nil && st.Offset == 0 {
		err = fmt.Errorf("blob %s: %w", dgst, errdefs.ErrNotFound)
	}
	if err == nil {
		err = w.Commit(ctx, 0, dgst, nil)
	}
	w.Close()
	if err == nil || errdefs.IsAlreadyExists(err) {
		return nil
	}
	return errors.Join(err, r.Blobs.Abort(ctx, "registry/share/"+id))
}

// whole takes a blob in one request.
func (r *Registry) whole(q *request, id string, dgst digest.Digest) error {
	name := ref(q.repo, id)
	err := r.take(q, name, dgst)
	if err != nil {
		if aerr := r.Blobs.Abort(r.in(context.WithoutCancel(q.Context())), name); aerr != nil && !errdefs.IsNotFound(aerr) {
			err = errors.Join(err, aerr)
		}
		return err
	}
	return q.created(dgst)
}

func (r *Registry) take(q *request, name string, dgst digest.Digest) error {
	w, err := r.Blobs.Writer(r.in(q.Context()), content.WriterOptions{Ref: name})
	if err != nil {
		return err
	}
	defer w.Close()
	if err := r.receive(q, w, 0); err != nil {
		return err
	}
	return r.commit(q, w, dgst)
}

// upload opens an upload of this repository, which nobody else may write meanwhile.
func (r *Registry) upload(q *request) (w content.Writer, offset int64, release func(), err error) {
	name := ref(q.repo, q.ref)
	st, err := r.standing(q)
	if err != nil {
		return nil, 0, nil, err
	}
	release, ok := r.uploads.try(name)
	if !ok {
		return nil, 0, nil, fail(http.StatusConflict, codeBlobUploadInvalid, "upload %s is being written by another request", q.ref)
	}
	w, err = r.Blobs.Writer(r.in(q.Context()), content.WriterOptions{Ref: name})
	if err != nil {
		release()
		return nil, 0, nil, explain(err, codeBlobUploadUnknown)
	}
	if st, err = w.Status(); err != nil {
		w.Close()
		release()
		return nil, 0, nil, err
	}
	return w, st.Offset, release, nil
}

// standing is where an upload stands.
func (r *Registry) standing(q *request) (content.Status, error) {
	if !uploadID.MatchString(q.ref) {
		return content.Status{}, fail(http.StatusNotFound, codeBlobUploadUnknown, "upload %.100q is none of this registry's", q.ref)
	}
	st, err := r.Blobs.Status(r.in(q.Context()), ref(q.repo, q.ref))
	if err != nil {
		return st, explain(err, codeBlobUploadUnknown)
	}
	return st, nil
}

func (r *Registry) uploadStatus(q *request) error {
	st, err := r.standing(q)
	if err != nil {
		return err
	}
	return q.accepted(q.ref, st.Offset, http.StatusNoContent)
}

// appendUpload takes a chunk. Chunks come in order; one that doesn't follow is
// refused and nothing is lost.
func (r *Registry) appendUpload(q *request) error {
	return r.extend(q, func(w content.Writer) error {
		st, err := w.Status()
		if err != nil {
			return err
		}
		return q.accepted(q.ref, st.Offset, http.StatusAccepted)
	})
}

// extend adds the body to an upload, and calls then while nobody else may write it.
func (r *Registry) extend(q *request, then func(w content.Writer) error) error {
	w, offset, release, err := r.upload(q)
	if err != nil {
		return err
	}
	defer release()
	defer w.Close()
	if err := r.inOrder(q, offset); err != nil {
		return err
	}
	if err := r.receive(q, w, offset); err != nil {
		return err
	}
	return then(w)
}

// inOrder checks Content-Range, where it is given.
func (r *Registry) inOrder(q *request, offset int64) error {
	text := q.Header.Get("Content-Range")
	if text == "" {
		return nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err1 != nil || err2 != nil || from < 0 || to < from {
		return fail(http.StatusBadRequest, codeBlobUploadInvalid, "Content-Range %.100q is no range", text)
	}
	if from != offset {
		e := fail(http.StatusRequestedRangeNotSatisfiable, codeBlobUploadInvalid, "the chunk begins at %d, the upload stands at %d: send what follows", from, offset)
		e.Header = http.Header{"Location": {"/v2/" + q.repo + "/blobs/uploads/" + q.ref}, "Range": {fmt.Sprintf("0-%d", max(offset-1, 0))}}
		return e
	}
	if q.ContentLength >= 0 && q.ContentLength != to-from+1 {
		return fail(http.StatusBadRequest, codeSizeInvalid, "Content-Range %s has %d bytes, Content-Length is %d", text, to-from+1, q.ContentLength)
	}
	return nil
}

// finishUpload takes the last chunk, if there is one, and makes the upload a blob.
func (r *Registry) finishUpload(q *request) error {
	dgst, err := readDigest(q.args.Get("digest"))
	if err != nil {
		return err
	}
	return r.extend(q, func(w content.Writer) error {
		if err := r.commit(q, w, dgst); err != nil {
			return err
		}
		r.clients.end(ref(q.repo, q.ref))
		return q.created(dgst)
	})
}

// chunk is how much is copied at once, in bytes.
const chunk = 1 << 20

// receive copies the body. What came before an error stays, for the client to go on.
func (r *Registry) receive(q *request, w io.Writer, offset int64) error {
	var in io.Reader = q.Body
	most := r.largest(q.repo)
	if most > 0 {
		if offset+max(q.ContentLength, 0) > most {
			return tooLarge(most)
		}
		in = io.LimitReader(in, most-offset+1)
	}
	n, err := io.CopyBuffer(onlyWriter{w}, in, make([]byte, buffer(q.ContentLength)))
	switch {
	case most > 0 && offset+n > most:
		return tooLarge(most)
	case stalled(err):
		return stood(n)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fail(http.StatusBadRequest, codeSizeInvalid, "the body ended after %d of %d bytes", n, q.ContentLength)
	}
	return err
}

// stood says that a client was given up; what came of an upload is there.
func stood(n int64) *Error {
	e := fail(http.StatusRequestTimeout, codeBlobUploadInvalid, "next to nothing came for a while, after %d bytes of this request", n)
	e.Header = http.Header{"Connection": {"close"}}
	return e
}

// buffer is how large a buffer a body of so many bytes needs.
func buffer(length int64) int64 {
	if length >= 0 && length < chunk {
		return max(length, 4096)
	}
	return chunk
}

// onlyWriter hides ReadFrom, so that the buffer is used.
type onlyWriter struct{ io.Writer }

func tooLarge(limit int64) error {
	return fail(http.StatusRequestEntityTooLarge, codeSizeInvalid, "blobs of more than %d bytes are not taken here", limit)
}

// commit checks the digest, makes the blob durable, and gives it to the repository.
func (r *Registry) commit(q *request, w content.Writer, dgst digest.Digest) error {
	ctx, end, err := r.held(context.WithoutCancel(q.Context())) // it is all here: a client that is gone doesn't matter
	if err != nil {
		return err
	}
	defer end()
	switch err := w.Commit(ctx, 0, dgst, nil); {
	case errdefs.IsFailedPrecondition(err):
		return fail(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	case err != nil && !errdefs.IsAlreadyExists(err):
		return err
	}
	return r.enter(ctx, q.repo, dgst)
}

// cancelUpload drops an upload.
func (r *Registry) cancelUpload(q *request) error {
	if _, err := r.standing(q); err != nil {
		return err
	}
	name := ref(q.repo, q.ref)
	release, ok := r.uploads.try(name)
	if !ok {
		return fail(http.StatusConflict, codeBlobUploadInvalid, "upload %s is being written by another request", q.ref)
	}
	defer release()
	if err := r.Blobs.Abort(r.in(q.Context()), name); err != nil {
		return explain(err, codeBlobUploadUnknown)
	}
	r.clients.end(name)
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}
