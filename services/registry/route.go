package registry

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/registry"
)

// request is one call, taken apart.
type request struct {
	*http.Request
	w    http.ResponseWriter
	repo string
	ref  string // what follows: a digest, a tag, an upload
	who  Identity
	args url.Values
}

// serve finds out what is asked for, asks whether it is allowed, and does it.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := r.answer(&request{Request: req, w: w, args: req.URL.Query()}); err != nil {
		refuse(w, req, explain(err, codeUnknown))
	}
}

func (r *Registry) answer(q *request) error {
	path := strings.TrimPrefix(q.URL.Path, "/v2")
	switch {
	case path == "" || path == "/":
		record(q.Context()).Route = "base"
		return r.base(q)
	case path == "/_catalog":
		record(q.Context()).Route = "catalog"
		return r.repositories(q)
	case path == adminPath:
		record(q.Context()).Route = "orlop"
		return r.collect(q)
	}
	kind := ""
	if q.repo, kind, q.ref = split(strings.TrimPrefix(path, "/")); kind == "" {
		return fail(http.StatusNotFound, codeUnsupported, "there is nothing at %.200s", q.URL.Path)
	}
	if err := registry.CheckName(q.repo); err != nil {
		return fail(http.StatusBadRequest, codeNameInvalid, "%v", err)
	}
	record(q.Context()).Route, record(q.Context()).Repository = kind, q.repo
	do := r.routes()[kind+" "+q.Method]
	if do.fn == nil {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "%s can't be done with %s", q.Method, kind)
	}
	if r.cfg.ReadOnly && do.needs != Pull {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
	}
	var err error
	if q.who, err = r.auth.Authorize(q.Request, needs(q.repo, do.needs)...); err != nil {
		return err
	}
	record(q.Context()).Who = q.who.Name
	if do.needs == Push && r.cache.upstream(q.repo) != nil {
		return Denied("repository %s is a cache of another registry: nothing can be pushed to it", q.repo)
	}
	if do.needs == Push && q.Method != http.MethodGet && q.Method != http.MethodHead {
		done, err := r.clients.send(q.client(), r.cfg.Bounds.Uploads)
		if err != nil {
			return tooMany("%s has %d uploads under way, more are not taken at once", q.client(), r.cfg.Bounds.Uploads)
		}
		defer done()
	}
	return do.fn(q)
}

// client is who has logged in, or else where the request comes from.
func (q *request) client() string {
	if q.who.Name != "" {
		return q.who.Name
	}
	return addressOf(q.RemoteAddr)
}

// tooMany asks a client to come again.
func tooMany(format string, args ...any) *Error {
	e := fail(http.StatusTooManyRequests, codeTooManyRequests, format, args...)
	e.Header = http.Header{"Retry-After": {"1"}}
	return e
}

// needs are the rights for an action; who pushes must be able to ask what is there.
func needs(repo string, a Action) []Access {
	if a == Push {
		return []Access{{Repository: repo, Action: Pull}, {Repository: repo, Action: Push}}
	}
	return []Access{{Repository: repo, Action: a}}
}

// operation is what is done, and the right that it needs.
type operation struct {
	needs Action
	fn    func(*request) error
}

func (r *Registry) routes() map[string]operation {
	return map[string]operation{
		"blobs GET": {Pull, r.getBlob}, "blobs HEAD": {Pull, r.getBlob}, "blobs DELETE": {Delete, r.deleteBlob},
		"uploads POST": {Push, r.startUpload},
		"upload GET":   {Push, r.uploadStatus}, "upload HEAD": {Push, r.uploadStatus}, "upload PATCH": {Push, r.appendUpload},
		"upload PUT": {Push, r.finishUpload}, "upload DELETE": {Push, r.cancelUpload},
		"manifests GET": {Pull, r.getManifest}, "manifests HEAD": {Pull, r.getManifest},
		"manifests PUT": {Push, r.putManifest}, "manifests DELETE": {Delete, r.deleteManifest},
		"tags GET": {Pull, r.tags}, "referrers GET": {Pull, r.referrers},
	}
}

// split takes a path apart from its end, since names of repositories have slashes.
func split(path string) (repo, kind, ref string) {
	if repo, ok := strings.CutSuffix(path, "/tags/list"); ok {
		return repo, "tags", ""
	}
	if i := strings.LastIndex(path, "/blobs/uploads"); i > 0 {
		switch rest := path[i+len("/blobs/uploads"):]; {
		case rest == "" || rest == "/":
			return path[:i], "uploads", ""
		case strings.Count(rest, "/") == 1:
			return path[:i], "upload", rest[1:]
		}
	}
	for _, kind := range []string{"manifests", "blobs", "referrers"} {
		i := strings.LastIndex(path, "/"+kind+"/")
		if i <= 0 {
			continue
		}
		if ref := path[i+len(kind)+2:]; ref != "" && !strings.Contains(ref, "/") {
			return path[:i], kind, ref
		}
	}
	return "", "", ""
}

// digest reads a digest of the request.
func readDigest(text string) (digest.Digest, error) {
	d, err := digest.Parse(text)
	if err != nil {
		return "", fail(http.StatusBadRequest, codeDigestInvalid, "%.200q is no digest: %v", text, err)
	}
	return d, nil
}

// Bounds of pages.
const (
	maxPage     = 1000
	defaultPage = 1000
)

// page reads n and last.
func (q *request) page() (registry.Page, error) {
	p := registry.Page{After: q.args.Get("last"), N: defaultPage}
	text := q.args.Get("n")
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return p, fail(http.StatusBadRequest, codeUnsupported, "n=%.50q is no number of entries", text)
	}
	p.N = min(n, maxPage)
	return p, nil
}

// next links to the page that follows.
func (q *request) next(last string, n int) {
	args := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	q.w.Header().Set("Link", "<"+q.URL.Path+"?"+args.Encode()+`>; rel="next"`)
}
