package s3

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"

	"github.com/orlop/orlop/internal/safefile"
)

// random makes a name.
func random() (string, error) {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	return hex.EncodeToString(b), err
}

// identity reads what this store signs its prefix with, and makes it the first time.
func identity(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(data) > 0 {
		return string(data), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id, err := random()
	if err != nil {
		return "", err
	}
	return id, safefile.Write(path, []byte(id), 0o600)
}

// claim makes sure, once, that the prefix is this store's, and removes what a crash
// left there. Nothing is listed, removed or added before.
func (s *Store) claim(ctx context.Context) error {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	if s.claimed {
		return nil
	}
	owner, err := s.owner(ctx)
	if errdefs.IsNotFound(err) {
		owner, err = s.sign(ctx)
	}
	if err != nil {
		return err
	}
	if owner != s.id {
		return fmt.Errorf("objects %q of bucket %s are another store's, whose blobs this one would remove: choose another prefix, or, if that store is gone and its blobs may go, delete the object %q: %w",
			s.cfg.Prefix+"…", s.cfg.Bucket, s.mark(), errdefs.ErrInternal)
	}
	if err := s.sweep(ctx); err != nil {
		return err
	}
	s.claimed = true
	return nil
}

func (s *Store) mark() string { return s.cfg.Prefix + "owner" }

func (s *Store) owner(ctx context.Context) (string, error) {
	ctx, cancel := s.small(ctx)
	defer cancel()
	body, _, _, err := s.core.GetObject(ctx, s.cfg.Bucket, s.mark(), minio.GetObjectOptions{})
	if err != nil {
		return "", classify("the owner's mark", err)
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, 1024))
	return string(data), classify("the owner's mark", err)
}

// sign puts the mark, unless somebody else was faster.
func (s *Store) sign(ctx context.Context) (string, error) {
	small, cancel := s.small(ctx)
	defer cancel()
	o := minio.PutObjectOptions{DisableContentSha256: asOne}
	o.SetMatchETagExcept("*")
	sum := sha256.Sum256([]byte(s.id))
	if _, err := s.core.PutObject(small, s.cfg.Bucket, s.mark(), strings.NewReader(s.id), int64(len(s.id)), "", hex.EncodeToString(sum[:]), o); err != nil &&
		minio.ToErrorResponse(err).Code != "PreconditionFailed" {
		return "", classify("the owner's mark", err)
	}
	return s.owner(ctx)
}

// sweep removes parts and objects of ingests that no note on this machine tells of.
func (s *Store) sweep(ctx context.Context) error {
	known, err := s.noted(ctx)
	if err != nil {
		return err
	}
	if err := s.sweepUploads(ctx, known); err != nil {
		return classify("parts of lost ingests", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range s.core.Client.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: s.ingests(), Recursive: true}) {
		err := o.Err
		if err == nil && !known[o.Key] {
			err = s.core.RemoveObject(ctx, s.cfg.Bucket, o.Key, minio.RemoveObjectOptions{})
		}
		if err != nil {
			return classify("lost ingests", err)
		}
	}
	return nil
}

// noted are the objects of ingests that have a note.
func (s *Store) noted(ctx context.Context) (map[string]bool, error) {
	known := map[string]bool{}
	for dir, err := range s.IngestDirs(ctx) {
		if err != nil {
			return nil, err
		}
		if n, err := loadNote(dir); err == nil {
			known[n.Object] = true
		}
	}
	return known, nil
}

func (s *Store) sweepUploads(ctx context.Context, known map[string]bool) error {
	var key, upload string
	for {
		l, err := s.core.ListMultipartUploads(ctx, s.cfg.Bucket, s.cfg.Prefix, key, upload, "", 1000)
		if err != nil {
			return err
		}
		for _, u := range l.Uploads {
			own := strings.HasPrefix(u.Key, s.ingests()) || strings.HasPrefix(u.Key, s.cfg.Prefix+"blobs/")
			if !own || known[u.Key] {
				continue
			}
			if err := s.core.AbortMultipartUpload(ctx, s.cfg.Bucket, u.Key, u.UploadID); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
				return err
			}
		}
		if !l.IsTruncated || l.NextKeyMarker == key && l.NextUploadIDMarker == upload {
			return nil
		}
		key, upload = l.NextKeyMarker, l.NextUploadIDMarker
	}
}
