// Package registry is the vocabulary of an image registry: repositories with their
// manifests, tags and blobs, and the store that keeps them.
//
// Bytes are the content store's, each once however many repositories have it. What
// a repository has is in the [Catalog]: only what is linked there can be pulled
// from it. Whatever no repository links any more is the collector's.
package registry

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Bounds of names, from the distribution spec (section "Pulling manifests").
const (
	maxName = 255
)

var (
	namePattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// CheckName checks a repository's name.
func CheckName(name string) error {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return fmt.Errorf("repository name %.300q: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// CheckTag checks a tag.
func CheckTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return fmt.Errorf("tag %.300q: %w", tag, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Blob is what a repository knows of a blob.
type Blob struct {
	Digest digest.Digest
	Size   int64     // bytes
	Linked time.Time // since when the repository has it
}

// Manifest is what a repository knows of a manifest or an index.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Size      int64 // bytes
	// Subject is the manifest that this one refers to.
	Subject      digest.Digest     `json:",omitempty"`
	ArtifactType string            `json:",omitempty"`
	Annotations  map[string]string `json:",omitempty"`
	// Blobs and Manifests are what hangs on it.
	Blobs     []digest.Digest `json:",omitempty"`
	Manifests []digest.Digest `json:",omitempty"`
	Pushed    time.Time
}

// Tag is a name for a manifest.
type Tag struct {
	Name    string
	Digest  digest.Digest
	Updated time.Time
}

// Page asks for at most N things whose names come after a name, in order; 0 is
// all.
type Page struct {
	After string
	N     int
}

// Usage is what repositories have together.
type Usage struct {
	Repositories, Manifests, Blobs int
	Bytes                          int64 // of manifests and blobs
}

// PutOptions say how a manifest is recorded.
type PutOptions struct {
	Tags []string
	// Sparse takes a manifest though its repository lacks what it refers to; else
	// that is a [*MissingError].
	Sparse bool
	// Keep tells tags that must not be moved, which is AlreadyExists; nil is none.
	Keep func(tag string) bool
}

// Catalog keeps what repositories have. All methods are safe for concurrent use,
// each is one transaction that is durable on return. A repository appears with the
// first thing that is put into it and disappears with the last.
type Catalog interface {
	// Repositories lists names.
	Repositories(ctx context.Context, p Page) ([]string, error)

	// LinkBlob gives a repository a blob that the content store has; it returns
	// NotFound if that hasn't. What is there already only gets younger.
	LinkBlob(ctx context.Context, repo string, dgst digest.Digest) (Blob, error)
	// Blob returns NotFound for what the repository hasn't got.
	Blob(ctx context.Context, repo string, dgst digest.Digest) (Blob, error)
	// Blobs lists a repository's blobs by digest; none if there is no such repository.
	Blobs(ctx context.Context, repo string, p Page) ([]Blob, error)
	// UnlinkBlob takes a blob away.
	UnlinkBlob(ctx context.Context, repo string, dgst digest.Digest) error

	// PutManifest records a manifest that the content store has, and points tags
	// at it.
	PutManifest(ctx context.Context, repo string, m Manifest, o PutOptions) error
	// Manifest returns NotFound for what the repository hasn't got.
	Manifest(ctx context.Context, repo string, dgst digest.Digest) (Manifest, error)
	// Manifests lists a repository's manifests by digest.
	Manifests(ctx context.Context, repo string, p Page) ([]Manifest, error)
	// DeleteManifest removes a manifest and the tags that point at it, unless keep
	// is true of one: then the error is FailedPrecondition.
	DeleteManifest(ctx context.Context, repo string, dgst digest.Digest, keep func(tag string) bool) error
	// Referrers lists the manifests whose subject is the given one, by digest. The
	// subject itself need not be there.
	Referrers(ctx context.Context, repo string, subject digest.Digest, p Page) ([]Manifest, error)

	// Tag returns NotFound for an unknown tag.
	Tag(ctx context.Context, repo, tag string) (Tag, error)
	// Tags lists a repository's tags; NotFound if there is no such repository.
	Tags(ctx context.Context, repo string, p Page) ([]Tag, error)
	// DeleteTag removes a tag.
	DeleteTag(ctx context.Context, repo, tag string) error

	// Uses lists the repositories that have a blob or a manifest.
	Uses(ctx context.Context, dgst digest.Digest) ([]string, error)
	// Usage counts what the repositories have that match chooses, each digest once.
	Usage(ctx context.Context, match func(repo string) bool) (Usage, error)

	// RetireTag removes a tag if it still is as it was read, and tells whether.
	RetireTag(ctx context.Context, repo string, tag Tag) (bool, error)
	// RetireManifests removes at most n manifests that were pushed before a time and
	// that nothing leads to: no tag, no index that stays, no subject that stays. It
	// returns them; dry only does that.
	RetireManifests(ctx context.Context, repo string, before time.Time, n int, dry bool) ([]Manifest, error)

	// Expire unlinks what was linked before a time and hangs on no manifest of its
	// repository, at most n things, and returns how many it has unlinked.
	Expire(ctx context.Context, before time.Time, n int) (int, error)
}

// MissingError tells what a manifest refers to and its repository hasn't got.
type MissingError struct {
	Repository string
	Blobs      []digest.Digest
	Manifests  []digest.Digest
}

// Error names the first.
func (e *MissingError) Error() string {
	all := append(append([]digest.Digest{}, e.Blobs...), e.Manifests...)
	return fmt.Sprintf("repository %s lacks %s, and %d more, that the manifest refers to", e.Repository, all[0], len(all)-1)
}

// Unwrap is the class.
func (e *MissingError) Unwrap() error { return errdefs.ErrNotFound }
