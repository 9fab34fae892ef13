package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
)

// copyPart is how much the server is asked to copy at once, in bytes: an answer must
// come before [Config].Stall is over.
const copyPart = 256 << 20

// Commit checks, and lets the blob appear. A failed check keeps the ingest and closes
// the writer; so does a server that doesn't answer.
func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, _ map[string]string) error {
	if w.f == nil {
		return errClosed
	}
	defer w.Close()
	if size > 0 && size != w.offset() {
		return fmt.Errorf("ingest %q has %d bytes, expected %d: %w", w.Ref, w.offset(), size, errdefs.ErrFailedPrecondition)
	}
	if err := w.s.claim(ctx); err != nil {
		return err
	}
	got, err := w.digest(ctx, expected)
	if err != nil {
		return w.named(err)
	}
	if expected != "" && expected != got {
		return fmt.Errorf("ingest %q has digest %s, expected %s: %w", w.Ref, got, expected, errdefs.ErrFailedPrecondition)
	}
	return w.publish(ctx, got)
}

// digest is that of the ingest, by the algorithm that is expected. Where that was not
// foreseen, the bytes are read again: those that were sent, from the server.
func (w *writer) digest(ctx context.Context, expected digest.Digest) (digest.Digest, error) {
	if expected == "" || expected.Algorithm() == w.note.Algorithm {
		return w.hash.Digest(), nil
	}
	alg := expected.Algorithm()
	if !alg.Available() {
		return "", fmt.Errorf("digest algorithm %q is not supported: %w", alg, errdefs.ErrInvalidArgument)
	}
	if w.note.Upload == "" {
		return alg.FromReader(io.NewSectionReader(w.f, 0, w.held))
	}
	if err := w.complete(ctx); err != nil {
		return "", err
	}
	body, _, _, err := w.s.core.GetObject(ctx, w.s.cfg.Bucket, w.note.Object, minio.GetObjectOptions{})
	if err != nil {
		return "", classify("what was sent", err)
	}
	defer body.Close()
	got, err := alg.FromReader(body)
	if err != nil {
		return "", classify("what was sent", err)
	}
	if got != expected { // parts that are one object can't be added to
		return got, w.Truncate(0)
	}
	return got, nil
}

// publish makes the ingest a blob.
func (w *writer) publish(ctx context.Context, dgst digest.Digest) error {
	_, err := w.s.Info(ctx, dgst)
	switch {
	case err == nil:
		if err := w.s.forget(ctx, w.note); err != nil {
			return w.named(err)
		}
		return errors.Join(fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists), os.RemoveAll(w.Dir))
	case !errdefs.IsNotFound(err):
		return err
	}
	if w.note.Upload == "" {
		err = w.put(ctx, dgst)
	} else {
		err = w.move(ctx, dgst)
	}
	if err != nil {
		return err
	}
	return w.named(os.RemoveAll(w.Dir))
}

// put sends what fits into one part.
func (w *writer) put(ctx context.Context, dgst digest.Digest) error {
	sum, err := sum256(w.f, w.held)
	if err != nil {
		return w.named(err)
	}
	_, err = w.s.core.PutObject(ctx, w.s.cfg.Bucket, w.s.blobKey(dgst), io.NewSectionReader(w.f, 0, w.held), w.held, "", sum,
		minio.PutObjectOptions{ContentType: mediaType, DisableContentSha256: asOne})
	return classify(describe(dgst), err)
}

// move makes the parts an object and lets the server copy it to its name.
func (w *writer) move(ctx context.Context, dgst digest.Digest) error {
	if err := w.complete(ctx); err != nil {
		return w.named(err)
	}
	if err := w.copy(ctx, w.s.blobKey(dgst)); err != nil {
		return classify(describe(dgst), err)
	}
	return classify(w.note.Object, w.s.core.RemoveObject(ctx, w.s.cfg.Bucket, w.note.Object, minio.RemoveObjectOptions{}))
}

// complete sends the rest and makes the parts an object. One that was completed before,
// by a writer that didn't come to its end, is all right.
func (w *writer) complete(ctx context.Context) error {
	if done, err := w.completed(ctx); done || err != nil {
		return err
	}
	if w.held > 0 {
		if err := w.send(); err != nil {
			return err
		}
	}
	var parts []minio.CompletePart
	for i, p := range w.note.Parts {
		parts = append(parts, minio.CompletePart{PartNumber: i + 1, ETag: p.ETag})
	}
	_, err := w.s.core.CompleteMultipartUpload(ctx, w.s.cfg.Bucket, w.note.Object, w.note.Upload, parts, minio.PutObjectOptions{})
	if err == nil {
		return nil
	}
	if done, derr := w.completed(ctx); done || derr != nil {
		return derr // the answer was lost
	}
	return classify("parts", err)
}

// completed tells whether all parts are one object already.
func (w *writer) completed(ctx context.Context) (bool, error) {
	if w.held > 0 {
		return false, nil
	}
	o, err := w.s.core.StatObject(ctx, w.s.cfg.Bucket, w.note.Object, minio.StatObjectOptions{})
	if err = classify("parts", err); errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && o.Size == w.sent, err
}

// copy lets the server copy the object, in pieces where it is large.
func (w *writer) copy(ctx context.Context, to string) error {
	core, bucket := w.s.core, w.s.cfg.Bucket
	if w.sent <= copyPart {
		_, err := core.CopyObject(ctx, bucket, w.note.Object, bucket, to, nil, minio.CopySrcOptions{}, minio.PutObjectOptions{})
		return err
	}
	upload, err := core.NewMultipartUpload(ctx, bucket, to, minio.PutObjectOptions{ContentType: mediaType})
	if err != nil {
		return err
	}
	parts, err := w.copyParts(ctx, to, upload)
	if err == nil {
		_, err = core.CompleteMultipartUpload(ctx, bucket, to, upload, parts, minio.PutObjectOptions{})
	}
	if err != nil {
		return errors.Join(err, core.AbortMultipartUpload(context.WithoutCancel(ctx), bucket, to, upload))
	}
	return nil
}

func (w *writer) copyParts(ctx context.Context, to, upload string) (parts []minio.CompletePart, err error) {
	each := max(copyPart, w.sent/maxParts+1)
	for at := int64(0); at < w.sent; at += each {
		p, err := w.s.core.CopyObjectPart(ctx, w.s.cfg.Bucket, w.note.Object, w.s.cfg.Bucket, to, upload, len(parts)+1, at, min(each, w.sent-at), nil)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}
