package fsck

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/remote"
)

// namedBlobs checks each blob once, whatever number of namespaces name it.
func (r *run) namedBlobs() error {
	byDigest := map[digest.Digest][]metadata.NamedBlob{}
	for _, b := range r.inv.Blobs {
		byDigest[b.Info.Digest] = append(byDigest[b.Info.Digest], b)
	}
	for _, dgst := range sorted(byDigest) {
		if err := r.namedBlob(dgst, byDigest[dgst]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) namedBlob(dgst digest.Digest, names []metadata.NamedBlob) error {
	have, err := r.Blobs.Info(r.ctx, dgst)
	f := Finding{Severity: Damage, Namespace: names[0].Namespace, Kind: "content", ID: dgst.String()}
	read := int64(0)
	switch {
	case errdefs.IsNotFound(err):
		f.Code, f.Message = "blob-missing", "the blob has a name, but no bytes"
	case err != nil:
		return err
	default:
		if wrong := otherSize(have, names); wrong != nil {
			f.Code, f.Message = "blob-size", wrong.Error()
		} else if r.opts.Verify {
			read = have.Size
			err = content.Verify(r.ctx, r.Blobs, dgst)
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			if err != nil {
				f.Code, f.Message = "blob-corrupt", err.Error()
			}
		}
	}
	if err := r.looked(read); err != nil || f.Code == "" {
		return err
	}
	if f.Code != "blob-missing" && !r.stillNamed(dgst, names) {
		return nil // deleted meanwhile
	}
	return r.found(f, func() error { return r.mendBlob(dgst, names) })
}

func otherSize(have content.Info, names []metadata.NamedBlob) error {
	for _, n := range names {
		if n.Info.Size != have.Size && n.Info.Size > 0 {
			return fmt.Errorf("the blob has %d bytes, namespace %s knows it with %d", have.Size, n.Namespace, n.Info.Size)
		}
	}
	return nil
}

func (r *run) stillNamed(dgst digest.Digest, names []metadata.NamedBlob) bool {
	for _, n := range names {
		if _, err := r.DB.Content().Info(namespaces.With(r.ctx, n.Namespace), dgst); err == nil {
			return true
		}
	}
	return false
}

// mendBlob fetches a blob again. Where no registry has it, its names and bytes
// go, so that the next pull doesn't take it for whole; the error says so. Where a
// registry can't be asked now, all stays for another try.
func (r *run) mendBlob(dgst digest.Digest, names []metadata.NamedBlob) error {
	err := r.refetch(dgst, names)
	if err == nil {
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	errs := []error{fmt.Errorf("its name is removed, pull the image again: %w", err)}
	for _, n := range names {
		err := r.DB.Content().Delete(namespaces.With(r.ctx, n.Namespace), dgst)
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// refetch tries all sources. It is NotFound if there are none or none has the
// blob.
func (r *run) refetch(dgst digest.Digest, names []metadata.NamedBlob) error {
	if r.Fetch == nil {
		return errors.New("this daemon fetches nothing")
	}
	var last error
	for _, n := range names {
		for _, src := range r.sources(n) {
			err := r.fetchFrom(src, ocispec.Descriptor{Digest: dgst, Size: n.Info.Size})
			if err == nil {
				return nil
			}
			if last == nil || errdefs.IsNotFound(last) {
				last = fmt.Errorf("%s/%s: %w", src.host, src.repository, err)
			}
		}
	}
	if last == nil {
		return fmt.Errorf("no label names its registry: %w", errdefs.ErrNotFound)
	}
	return last
}

// source is where a blob may have come from.
type source struct{ host, repository string }

// sources reads the labels that pulls leave. containerd's clients leave out the
// registry's port, which the names of images still tell.
func (r *run) sources(n metadata.NamedBlob) []source {
	var out []source
	for key, repositories := range n.Info.Labels {
		host, ok := strings.CutPrefix(key, label.DistributionFrom)
		if !ok {
			continue
		}
		for repository := range strings.SplitSeq(repositories, ",") {
			out = append(out, r.withPort(n.Namespace, source{host, repository})...)
		}
	}
	slices.SortFunc(out, func(a, b source) int { return strings.Compare(a.host+"/"+a.repository, b.host+"/"+b.repository) })
	return slices.Compact(out)
}

func (r *run) withPort(ns string, src source) []source {
	var out []source
	images, err := r.DB.Images().List(namespaces.With(r.ctx, ns))
	if err == nil {
		for _, img := range images {
			ref, err := remote.ParseReference(img.Name)
			if err != nil || ref.Repository != src.repository {
				continue
			}
			if host, _, err := net.SplitHostPort(ref.Host); err == nil && host == src.host {
				out = append(out, source{ref.Host, src.repository})
			}
		}
	}
	if len(out) == 0 {
		out = []source{src}
	}
	return out
}

// fetchFrom replaces a blob's bytes. The damaged ones go only once a registry
// answers; what it sends is checked before it counts. Other bytes than asked for
// are as good as none: NotFound.
func (r *run) fetchFrom(src source, desc ocispec.Descriptor) error {
	body, err := r.Fetch(r.ctx, src.host, src.repository, desc)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := r.Blobs.Delete(r.ctx, desc.Digest); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	ref := "fsck/" + desc.Digest.String()
	err = content.WriteBlob(r.ctx, r.Blobs, ref, body, desc, nil)
	if err == nil {
		return nil
	}
	if abort := r.Blobs.Abort(r.ctx, ref); abort != nil && !errdefs.IsNotFound(abort) {
		err = errors.Join(err, abort)
	}
	if errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("the registry sends something else: %v: %w", err, errdefs.ErrNotFound)
	}
	return err
}

// orphanBlobs are bytes that no namespace names.
func (r *run) orphanBlobs() error {
	named := map[string]bool{}
	for _, b := range r.inv.Blobs {
		named[b.Info.Digest.String()] = true
	}
	for _, text := range sorted(r.blobs) {
		if named[text] {
			continue
		}
		if err := r.looked(0); err != nil {
			return err
		}
		f := Finding{Severity: Note, Code: "blob-orphan", Kind: "content", ID: text,
			Message: fmt.Sprintf("no namespace names these %d bytes", r.blobs[text].Size)}
		if err := r.found(f, func() error { return r.DB.DropBlob(r.ctx, digest.Digest(text)) }); err != nil {
			return err
		}
	}
	return nil
}

// ingests compares those of the backend with those that have a name. A name
// whose bytes are gone is no damage: the writer starts anew.
func (r *run) ingests() error {
	for _, st := range r.ingestsOf {
		if err := r.looked(0); err != nil {
			return err
		}
		if r.inv.Ingests[st.Ref] {
			continue
		}
		f := Finding{Severity: Note, Code: "ingest-orphan", Kind: "ingest", ID: st.Ref,
			Message: fmt.Sprintf("no namespace names this ingest of %d bytes", st.Offset)}
		if err := r.found(f, func() error { return r.Blobs.Abort(r.ctx, st.Ref) }); err != nil {
			return err
		}
	}
	return r.tornIngests()
}

// tornIngests are those whose ref a power cut has taken.
func (r *run) tornIngests() error {
	m, ok := r.Blobs.(content.Mender)
	if !ok {
		return nil
	}
	torn, err := m.TornIngests(r.ctx)
	if err != nil {
		return err
	}
	for _, name := range torn {
		if err := r.looked(0); err != nil {
			return err
		}
		f := Finding{Severity: Note, Code: "ingest-torn", Kind: "ingest", ID: name, Message: "a power cut left an ingest that nobody can go on with"}
		if err := r.found(f, func() error { return m.DropTorn(r.ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}
