package docker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	steps "github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/engine"
)

// maxAuth bounds the header with credentials, in bytes.
const maxAuth = 64 << 10

// credentials reads the header X-Registry-Auth: base64 of JSON. One that can't be
// read counts as none, as in Docker.
func (c *call) credentials() engine.Credentials {
	text := c.r.Header.Get(registry.AuthHeader)
	if text == "" || len(text) > maxAuth {
		return engine.Credentials{}
	}
	data, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		data, err = base64.RawURLEncoding.DecodeString(text)
	}
	var a registry.AuthConfig
	if err != nil || json.Unmarshal(data, &a) != nil {
		return engine.Credentials{}
	}
	if a.Username == "" && a.Auth != "" {
		if pair, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			a.Username, a.Password, _ = strings.Cut(string(pair), ":")
		}
	}
	return engine.Credentials{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
}

// pullImage is docker pull, and docker import.
func pullImage(s *Server, c *call) error {
	if c.query("fromSrc") != "" {
		return importImage(s, c)
	}
	p, err := c.platformSince(32, "platform")
	if err != nil {
		return err
	}
	if c.query("fromImage") == "" {
		return badRequest("no image is named: fromImage is empty")
	}
	out := newJSONStream(c)
	show := &transferView{out: out, words: pullWords}
	name := c.query("fromImage")
	show.first = func() {
		id := c.query("tag")
		if named, err := reference.ParseDockerRef(name); err == nil {
			if tagged, ok := named.(reference.Tagged); ok && id == "" {
				id = tagged.Tag()
			}
			out.write(progress{Status: "Pulling from " + reference.Path(named), ID: id})
		}
	}
	got, err := s.engine.Pull(c.r.Context(), name, c.query("tag"), p, c.credentials(), show.step)
	if err != nil {
		return out.fail(err)
	}
	out.write(progress{Status: "Digest: " + got.ID.String()})
	text := "Status: Image is up to date for "
	if got.New {
		text = "Status: Downloaded newer image for "
	}
	return ignore(out.write(progress{Status: text + got.Familiar}))
}

// pushImage is docker push.
func pushImage(s *Server, c *call) error {
	p, err := c.platformSince(46, "platform")
	if err != nil {
		return err
	}
	out := newJSONStream(c)
	show := &transferView{out: out, words: pushWords}
	tag := c.query("tag")
	show.first = func() {
		out.write(progress{Status: fmt.Sprintf("The push refers to repository [%s]", repository(c.vars["name"]))})
	}
	sent, err := s.engine.Push(c.r.Context(), c.vars["name"], tag, p, c.credentials(), show.step)
	if err != nil {
		return out.fail(err)
	}
	if tag == "" {
		tag = "latest"
	}
	out.write(progress{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, sent.Digest, sent.Size)})
	return ignore(out.write(progress{Progress: &jsonstream.Progress{}, Aux: map[string]any{"Tag": tag, "Digest": sent.Digest, "Size": sent.Size}}))
}

func repository(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return named.Name()
}

// pullWords and pushWords are how Docker calls the steps of a layer.
var (
	pullWords = map[string]string{"waiting": "Pulling fs layer", "downloading": "Downloading", "fetching": "Downloading", "extracting": "Extracting",
		"extracted": "Pull complete", "complete": "Pull complete", "exists": "Already exists", "already exists": "Already exists"}
	pushWords = map[string]string{"waiting": "Preparing", "uploading": "Pushing", "exists": "Layer already exists", "already exists": "Layer already exists",
		"mounted": "Mounted from another repository", "complete": "Pushed", "uploaded": "Pushed", "done": "Pushed"}
)

// transferView shows the steps of layers as Docker does.
type transferView struct {
	out   *jsonStream
	words map[string]string
	first func()
	once  sync.Once
}

// step shows one step; those of other things than layers are not shown.
func (v *transferView) step(s steps.Step) {
	hex, ok := strings.CutPrefix(s.Name, "layer-sha256:")
	if !ok || len(hex) < 12 {
		if strings.HasPrefix(s.Event, "Pulling ") || strings.HasPrefix(s.Event, "Pushing ") {
			v.once.Do(v.first)
		}
		return
	}
	v.once.Do(v.first)
	word, known := v.words[s.Event]
	if !known {
		return
	}
	p := progress{Status: word, ID: hex[:12], Progress: &jsonstream.Progress{}}
	if strings.HasSuffix(word, "ing") && word != "Preparing" {
		p.Progress.Current, p.Progress.Total = s.Done, s.Total
	}
	v.out.write(p)
}

// loadImages is docker load.
func loadImages(s *Server, c *call) error {
	list, err := c.platformsSince(platformOfArchive, "platform")
	if err != nil {
		return err
	}
	out := newJSONStream(c)
	names, err := s.engine.Load(c.r.Context(), c.r.Body, list, nil)
	if err != nil {
		out.begin() // clients look for errors in the stream
		return out.fail(err)
	}
	for _, name := range names {
		what := "Loaded image: "
		if strings.HasPrefix(name, "sha256:") {
			what = "Loaded image ID: "
		}
		out.write(progress{Stream: what + name + "\n"})
	}
	return nil
}

// saveImages is docker save.
func saveImages(s *Server, c *call) error {
	list, err := c.platformsSince(platformOfArchive, "platform")
	if err != nil {
		return err
	}
	names := c.r.URL.Query()["names"]
	if name := c.vars["name"]; name != "" {
		names = []string{name}
	}
	if err := s.engine.CheckSave(c.r.Context(), names, list); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-tar")
	if err := s.engine.Save(c.r.Context(), c.w, names, list); err != nil {
		c.w.Header().Del("Content-Type")
		panic(http.ErrAbortHandler) // the archive must not look whole
	}
	return nil
}
