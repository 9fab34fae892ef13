package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/registry"
)

// PagePath is where people look at the registry with a browser.
const PagePath = "/ui/"

// pagePolicy lets a page be nothing but itself and its style.
const pagePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
code{font-size:.85em}
`

// pageText is all pages; html/template escapes what is put in.
var pageText = template.Must(template.New("page").Funcs(template.FuncMap{"size": pageSize}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{{.Title}}</title><link rel="stylesheet" href="/ui/style.css">
<p><a href="/ui/">Repositories</a>{{if .Repo}} / <a href="/ui/{{.Repo}}">{{.Repo}}</a>{{end}}</p><h1>{{.Title}}</h1>
{{if .Names}}<ul>{{range .Names}}<li><a href="/ui/{{.}}">{{.}}</a></li>{{end}}</ul>{{end}}
{{if .More}}<p><a href="/ui/?last={{.More}}">More</a></p>{{end}}
{{if .Tags}}<table><tr><th>Tag</th><th>Manifest</th><th>Since</th></tr>{{$r := .Repo}}{{range .Tags}}<tr><td>{{.Name}}</td>
<td><a href="/ui/{{$r}}@{{.Digest}}"><code>{{.Digest}}</code></a></td><td>{{.Updated.Format "2006-01-02 15:04"}}</td></tr>{{end}}</table>{{end}}
{{with .Manifest}}<table><tr><th>Type</th><td>{{.MediaType}}</td></tr><tr><th>Size</th><td>{{size .Size}}</td></tr><tr><th>Pushed</th><td>{{.Pushed.Format "2006-01-02 15:04"}}</td></tr></table>{{end}}
{{range .Lists}}{{if .Items}}<h2>{{.Title}}</h2><table>{{$r := $.Repo}}{{$link := .Link}}{{range .Items}}<tr><td>{{if $link}}<a href="/ui/{{$r}}@{{.Digest}}"><code>{{.Digest}}</code></a>{{else}}<code>{{.Digest}}</code>{{end}}</td>
<td>{{.MediaType}}</td><td>{{size .Size}}</td></tr>{{end}}</table>{{end}}{{end}}`))

// pageData is what a page shows.
type pageData struct {
	Title, Repo, More string
	Names             []string
	Tags              []registry.Tag
	Manifest          *registry.Manifest
	Lists             []pageList
}

// pageList is descriptors under a title.
type pageList struct {
	Title string
	Link  bool // they are manifests
	Items []ocispec.Descriptor
}

func pageSize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for ; v >= 1000 && i < len(units)-1; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.4g %s", v, units[i])
}

// Pages serves [PagePath]: what there is, to read, for those who may pull it. Nothing can
// be changed, and no script runs.
func (r *Registry) Pages() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		record(req.Context()).Route = "ui"
		q := &request{Request: req, w: w, args: req.URL.Query()}
		data, err := r.page(q, strings.TrimPrefix(req.URL.Path, PagePath))
		if err != nil {
			refusePage(w, explain(err, codeNameUnknown))
			return
		}
		if data != nil {
			h.Set("Content-Type", "text/html; charset=utf-8")
			pageText.Execute(w, data)
		}
	})
}

// refusePage says no to a browser, which can only log in by password.
func refusePage(w http.ResponseWriter, e *Error) {
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry", charset="UTF-8"`)
	}
	http.Error(w, e.Message, e.Status)
}

func (r *Registry) page(q *request, path string) (*pageData, error) {
	switch {
	case q.Method != http.MethodGet && q.Method != http.MethodHead:
		return nil, fail(http.StatusMethodNotAllowed, codeUnsupported, "there is only something to read here")
	case path == "style.css":
		q.w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, err := io.WriteString(q.w, pageStyle)
		return nil, err
	case path == "":
		return r.repositoryPage(q)
	}
	repo, object, one := strings.Cut(path, "@")
	if err := registry.CheckName(repo); err != nil {
		return nil, err
	}
	who, err := r.auth.Authorize(q.Request, Access{Repository: repo, Action: Pull})
	if err != nil {
		return nil, err
	}
	record(q.Context()).Who, record(q.Context()).Repository = who.Name, repo
	if one {
		return r.manifestPage(q, repo, object)
	}
	tags, err := r.Catalog.Tags(q.Context(), repo, registry.Page{N: maxPage})
	return &pageData{Title: repo, Repo: repo, Tags: tags}, err
}

func (r *Registry) repositoryPage(q *request) (*pageData, error) {
	who, err := r.auth.Authorize(q.Request, Access{Catalog: true})
	if err != nil {
		return nil, err
	}
	names, more, err := r.visible(q, who, registry.Page{After: q.args.Get("last"), N: maxPage})
	data := &pageData{Title: "Repositories", Names: names}
	if more {
		data.More = names[len(names)-1]
	}
	return data, err
}

func (r *Registry) manifestPage(q *request, repo, object string) (*pageData, error) {
	dgst, err := readDigest(object)
	if err != nil {
		return nil, err
	}
	m, err := r.Catalog.Manifest(q.Context(), repo, dgst)
	if err != nil {
		return nil, err
	}
	d, err := r.document(q, dgst)
	if err != nil {
		return nil, err
	}
	refs, err := r.Catalog.Referrers(q.Context(), repo, dgst, registry.Page{N: maxReferrers})
	if err != nil {
		return nil, err
	}
	var back []ocispec.Descriptor
	for _, m := range refs {
		back = append(back, ocispec.Descriptor{MediaType: m.ArtifactType, Digest: m.Digest, Size: m.Size})
	}
	return &pageData{Title: dgst.String(), Repo: repo, Manifest: &m, Lists: []pageList{
		{"Layers", false, append(d.Layers, d.Blobs...)}, {"Manifests", true, d.Manifests}, {"Referrers", true, back}}}, nil
}

// document reads a manifest that was checked when it came.
func (r *Registry) document(q *request, dgst digest.Digest) (d document, err error) {
	b, err := r.open(q.Context(), dgst)
	if err != nil {
		return d, err
	}
	defer b.Close()
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	return d, errors.Join(err, json.Unmarshal(body, &d))
}
