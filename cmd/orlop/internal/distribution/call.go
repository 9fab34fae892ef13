package distribution

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pages calls take with each page of a list.
func (c *Client) pages(ctx context.Context, path, scope string, take func([]byte) error) error {
	for range maxPages {
		a, err := c.do(ctx, request{method: http.MethodGet, path: path, scope: scope})
		if err != nil {
			return err
		}
		if err := take(a.Body); err != nil {
			return err
		}
		if path = c.next(a.Header); path == "" {
			return nil
		}
	}
	return fmt.Errorf("%s has more than %d pages", c.base.Host, maxPages)
}

// Repositories lists those that the user may see.
func (c *Client) Repositories(ctx context.Context) ([]string, error) {
	var out []string
	err := c.pages(ctx, "/v2/_catalog?n=1000", "registry:catalog:*", func(body []byte) error {
		var page struct{ Repositories []string }
		err := json.Unmarshal(body, &page)
		out = append(out, page.Repositories...)
		return err
	})
	return out, err
}

// Tags lists those of a repository.
func (c *Client) Tags(ctx context.Context, repo string) ([]string, error) {
	var out []string
	err := c.pages(ctx, "/v2/"+repo+"/tags/list?n=1000", scope(repo, "pull"), func(body []byte) error {
		var page struct{ Tags []string }
		err := json.Unmarshal(body, &page)
		out = append(out, page.Tags...)
		return err
	})
	return out, err
}

func scope(repo, actions string) string { return "repository:" + repo + ":" + actions }

// accepted are the types of manifests, as Docker and OCI call them.
var accepted = strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json", "*/*;q=0.1"}, ", ")

// Manifest is one, with its type and digest.
type Manifest struct {
	MediaType, Digest string
	Body              []byte
}

// Manifest fetches one by tag or digest.
func (c *Client) Manifest(ctx context.Context, repo, ref string) (Manifest, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/v2/" + repo + "/manifests/" + ref, scope: scope(repo, "pull"), accept: accepted})
	if err != nil {
		return Manifest{}, err
	}
	return Manifest{a.Header.Get("Content-Type"), a.Header.Get("Docker-Content-Digest"), a.Body}, nil
}

// Referrers lists what refers to a manifest.
func (c *Client) Referrers(ctx context.Context, repo, digest string) ([]ocispec.Descriptor, error) {
	out := []ocispec.Descriptor{}
	err := c.pages(ctx, "/v2/"+repo+"/referrers/"+digest, scope(repo, "pull"), func(body []byte) error {
		var page ocispec.Index
		err := json.Unmarshal(body, &page)
		out = append(out, page.Manifests...)
		return err
	})
	return out, err
}

// Delete removes a tag, or a manifest by its digest.
func (c *Client) Delete(ctx context.Context, repo, ref string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/v2/" + repo + "/manifests/" + ref, scope: scope(repo, "delete")})
	return err
}

// Rule is how the replication of an Orlop registry by one rule is doing.
type Rule struct {
	Name, Target     string
	Waiting, Failing int
	Survey           bool
	Pushed, Deleted  int64
	Bytes            int64
	Last             *time.Time
	Error            string
}

// Replication tells how an Orlop registry's rules are doing. With a rule, that looks at
// everything again.
func (c *Client) Replication(ctx context.Context, again string) ([]Rule, error) {
	q := request{method: http.MethodGet, path: "/v2/_orlop/replication", scope: scope("_orlop", "delete")}
	if again != "" {
		q.method, q.path = http.MethodPost, q.path+"?rule="+url.QueryEscape(again)
	}
	a, err := c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	var out struct{ Rules []Rule }
	return out.Rules, json.Unmarshal(a.Body, &out)
}

// Removal is something that a clean-up removed, or would remove.
type Removal struct {
	Repository, Tag, Digest, Why string
}

// Collect tells an Orlop registry to clean up.
func (c *Client) Collect(ctx context.Context, dry bool) ([]Removal, int, error) {
	a, err := c.do(ctx, request{method: http.MethodPost, path: fmt.Sprintf("/v2/_orlop/gc?dry=%t", dry), scope: scope("_orlop", "delete")})
	if err != nil {
		return nil, 0, err
	}
	var out struct {
		Removed  []Removal
		Unlinked int
	}
	err = json.Unmarshal(a.Body, &out)
	return out.Removed, out.Unlinked, err
}
