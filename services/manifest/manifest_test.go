package manifest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/manifest"
)

const (
	d1    = `"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000001","size":1`
	image = `{"config":{` + d1 + `},"layers":[{` + d1 + `}]}`
	index = `{"manifests":[{` + d1 + `}]}`
)

func describe(mediaType, body string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(body), Size: int64(len(body))}
}

func TestParse(t *testing.T) {
	const manifestType, indexType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	for _, c := range []struct {
		name, mediaType, body string
		ok                    bool
	}{
		{"image", manifestType, image, true},
		{"docker's", manifest.DockerManifest, image, true},
		{"index", indexType, index, true},
		{"empty index", indexType, `{}`, true},
		{"image as index", indexType, image, false},
		{"index as image", manifestType, index, false},
		{"both at once", indexType, `{"config":{` + d1 + `},"manifests":[{` + d1 + `}]}`, false},
		{"layers in an index", indexType, `{"layers":[{` + d1 + `}],"manifests":[{` + d1 + `}]}`, false},
		{"its own word differs", indexType, `{"mediaType":"` + manifestType + `","manifests":[{` + d1 + `}]}`, false},
		{"no digest", manifestType, `{"config":{` + d1 + `},"layers":[{"size":1}]}`, false},
		{"path for a digest", manifestType, `{"config":{` + d1 + `},"layers":[{"digest":"../../etc:passwd"}]}`, false},
		{"unknown algorithm", manifestType, `{"config":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}}`, false},
		{"negative size", manifestType, `{"config":{` + strings.Replace(d1, `"size":1`, `"size":-1`, 1) + `}}`, false},
		{"too many layers", manifestType, `{"config":{` + d1 + `},"layers":[` + strings.Repeat(`{`+d1+`},`, manifest.MaxLayers) + `{` + d1 + `}]}`, false},
		{"too many manifests", indexType, `{"manifests":[` + strings.Repeat(`{`+d1+`},`, manifest.MaxManifests) + `{` + d1 + `}]}`, false},
		{"not JSON", manifestType, `<html>`, false},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+json", `{}`, false},
	} {
		if _, err := manifest.Parse(describe(c.mediaType, c.body), []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	huge := make([]byte, manifest.MaxSize+1)
	if _, err := manifest.Parse(describe(manifestType, ""), huge); !errdefs.IsInvalidArgument(err) {
		t.Errorf("huge: %v", err)
	}
}

func TestTypeOf(t *testing.T) {
	if _, err := manifest.TypeOf([]byte(`{"mediaType":"`+ocispec.MediaTypeImageIndex+`"}`), ocispec.MediaTypeImageManifest); err == nil {
		t.Error("an index is taken for a manifest on the registry's word")
	}
	if got, err := manifest.TypeOf([]byte(`{}`), ocispec.MediaTypeImageManifest); err != nil || got != ocispec.MediaTypeImageManifest {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := manifest.TypeOf([]byte(`{}`), "text/html"); !errdefs.IsNotImplemented(err) {
		t.Errorf("text/html: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(image), false)
	f.Add([]byte(index), true)
	f.Add([]byte(`{"config":{"digest":"sha512:x"},"layers":[{"size":-1}]}`), false)
	f.Fuzz(func(t *testing.T, body []byte, asIndex bool) {
		mediaType := ocispec.MediaTypeImageManifest
		if asIndex {
			mediaType = ocispec.MediaTypeImageIndex
		}
		m, err := manifest.Parse(describe(mediaType, string(body)), body)
		if err != nil {
			return
		}
		if m.Index != asIndex {
			t.Fatalf("%q is an index: %v", body, m.Index)
		}
		for _, d := range m.All() {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Fatalf("%q refers to %+v", body, d)
			}
		}
		for k, v := range m.Labels() {
			if digest.Digest(v).Validate() != nil {
				t.Fatalf("label %s=%s", k, v)
			}
		}
		claimed, err := manifest.TypeOf(body, mediaType)
		if err == nil && manifest.IsIndex(claimed) != asIndex {
			t.Fatalf("%q is %s once and %s once", body, claimed, mediaType)
		}
	})
}

// Attestations go with what they are of, whatever platform they say.
func TestFor(t *testing.T) {
	manifests := []ocispec.Descriptor{
		{Digest: "a", Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}},
		{Digest: "b", Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
		{Digest: "of-a", Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "a"}},
		{Digest: "of-b", Annotations: map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "b"}},
		{Digest: "silent"},
	}
	for _, c := range []struct {
		match platforms.Matcher
		want  []digest.Digest
	}{
		{nil, []digest.Digest{"a", "b", "of-a", "of-b", "silent"}},
		{platforms.OnlyStrict(ocispec.Platform{OS: "linux", Architecture: "arm64"}), []digest.Digest{"b", "silent", "of-b"}},
		{platforms.OnlyStrict(ocispec.Platform{OS: "linux", Architecture: "s390x"}), []digest.Digest{"silent"}},
	} {
		var got []digest.Digest
		for _, d := range (manifest.Manifest{Index: true, Manifests: manifests}).For(c.match) {
			got = append(got, d.Digest)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}
