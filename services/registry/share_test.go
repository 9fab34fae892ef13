package registry_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/voucher"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/access"
)

// guarded is a registry that shares, with an administrator and two teams that know
// nothing of each other; each password is the name.
func guarded(t *testing.T) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	var lines []string
	for _, name := range []string{"root", "alice", "mallory"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(name), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, name+":"+string(hash))
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := access.New(access.Config{Users: path, Key: filepath.Join(t.TempDir(), "key"), Basic: true, Rights: []access.Right{
		{Who: []string{"root"}, Repositories: []string{"**"}, Actions: []string{"*"}},
		{Who: []string{"alice"}, Repositories: []string{"alice/**"}, Actions: []string{"*"}},
		{Who: []string{"mallory"}, Repositories: []string{"mallory/**"}, Actions: []string{"*"}},
		{Who: []string{"mallory"}, Repositories: []string{"public/**"}, Actions: []string{"pull"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, registry.Config{Shared: true}, guard)
}

func (r *rig) as(name, method, path, body string, headers ...string) answer {
	r.t.Helper()
	return r.do(method, strings.Replace(r.http.URL, "http://", "http://"+name+":"+name+"@", 1)+path, body, headers...)
}

func (r *rig) pushAs(name, repo, data string) digest.Digest {
	r.t.Helper()
	d := digest.FromString(data)
	r.want(r.as(name, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), data), 201, "")
	return d
}

// Whoever knows no more than a digest gets nothing, whatever they ask.
func TestDigestIsNoRight(t *testing.T) {
	r := guarded(t)
	secret := r.pushAs("alice", "alice/app", "alice's secret")
	image := digest.FromString("of the image store")
	write(t, r.db, namespaces.With(context.Background(), "default"), "of the image store")
	for _, d := range []digest.Digest{secret, image} {
		for _, from := range []string{"", "&from=alice/app", "&from=mallory/app", "&from=public/app"} {
			r.want(r.as("mallory", "POST", "/v2/mallory/app/blobs/uploads/?mount="+d.String()+from, ""), 202, "")
		}
		for _, word := range []string{"", "00", voucher.New().Word(r.http.Listener.Addr().String(), "mallory/app", d)} {
			r.want(r.as("mallory", "HEAD", "/v2/mallory/app/blobs/"+d.String(), "", voucher.Header, word), 404, "")
		}
		r.want(r.as("mallory", "GET", "/v2/mallory/app/blobs/"+d.String(), ""), 404, "")
		manifest := `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + d.String() + `","size":14},"layers":[]}`
		r.want(r.as("mallory", "PUT", "/v2/mallory/app/manifests/1", manifest, "Content-Type", "application/vnd.oci.image.manifest.v1+json"), 404, "MANIFEST_BLOB_UNKNOWN")
		r.want(r.as("mallory", "GET", "/v2/mallory/app/blobs/"+d.String(), ""), 404, "")
	}
}

// Who may pull a blob somewhere may link it without saying where; an administrator may
// link any.
func TestShares(t *testing.T) {
	r := guarded(t)
	public := r.pushAs("root", "public/app", "for all")
	r.want(r.as("mallory", "POST", "/v2/mallory/app/blobs/uploads/?mount="+public.String(), ""), 201, "")
	r.want(r.as("mallory", "GET", "/v2/mallory/app/blobs/"+public.String(), ""), 200, "for all")
	secret := r.pushAs("alice", "alice/app", "alice's secret")
	r.want(r.as("root", "POST", "/v2/root/app/blobs/uploads/?mount="+secret.String(), ""), 201, "")
	write(t, r.db, namespaces.With(context.Background(), "default"), "of the image store")
	r.want(r.as("root", "HEAD", "/v2/root/app/blobs/"+digest.FromString("of the image store").String(), ""), 200, "")
}
