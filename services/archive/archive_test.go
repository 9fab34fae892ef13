package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/test/imagerig"
)

var amd64, arm64 = imagerig.Linux("amd64"), imagerig.Linux("arm64")

// entry is a file, link or folder of an archive.
type entry struct {
	name, link string
	data       []byte
	kind       byte
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Size: int64(len(e.data)), Typeflag: e.kind, Mode: 0o644}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(e.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func blobName(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

var layoutEntry = entry{name: "oci-layout", data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}

// layout makes the entries of an OCI layout.
func layout(t testing.TB, img imagerig.Image, annotations map[string]string) []entry {
	out := []entry{layoutEntry}
	for d, body := range img.Blobs {
		out = append(out, entry{name: blobName(d), data: body})
	}
	for _, m := range img.Manifests {
		out = append(out, entry{name: blobName(m.Desc.Digest), data: m.Body})
	}
	target := img.Target
	target.Annotations = annotations
	return append(out, entry{name: "index.json", data: imagerig.JSON(t, ocispec.Index{Manifests: []ocispec.Descriptor{target}})})
}

func images(t testing.TB, rig *imagerig.Rig) map[string]string {
	t.Helper()
	all, err := rig.Images.List(rig.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, i := range all {
		out[i.Name] = i.Target.Digest.String()
	}
	return out
}

var byName = transfer.Store{Extra: []transfer.Reference{{Name: "imported", Prefix: true, Overwrite: true}}}

func importInto(rig *imagerig.Rig, data []byte, to transfer.Store) error {
	return rig.Transfer(rig.Ctx, transfer.Import{From: bytes.NewReader(data)}, to, nil)
}

func testLayer(t testing.TB, name string) []byte {
	return imagerig.Tar(t, imagerig.File{Name: name, Data: []byte(strings.Repeat(name+" ", 500))})
}

func TestImportLayout(t *testing.T) {
	img := imagerig.NewImage(t, amd64, testLayer(t, "a"), testLayer(t, "b"))
	plain := pack(t, layout(t, img, map[string]string{ocispec.AnnotationRefName: "v1"})...)
	for name, data := range map[string][]byte{"plain": plain, "gzip": imagerig.Gzip(t, plain)} {
		t.Run(name, func(t *testing.T) {
			rig := imagerig.New(t)
			if err := importInto(rig, data, byName); err != nil {
				t.Fatal(err)
			}
			if got := images(t, rig); len(got) != 1 || got["imported:v1"] != img.Target.Digest.String() {
				t.Fatalf("images: %v", got)
			}
			info, err := rig.Content.Info(rig.Ctx, img.Target.Digest)
			if err != nil || info.Labels["containerd.io/gc.ref.content.l.1"] != img.Layers[1].Digest.String() {
				t.Fatalf("the manifest doesn't hold its layers: %v, %v", info.Labels, err)
			}
		})
	}
}

func TestImportNames(t *testing.T) {
	img := imagerig.NewImage(t, amd64, testLayer(t, "a"))
	at := "@" + img.Target.Digest.String()
	whole := map[string]string{archive.NameAnnotation: "reg.example/x:v2", ocispec.AnnotationRefName: "v2"}
	for _, c := range []struct {
		name        string
		annotations map[string]string
		to          transfer.Store
		want        []string // none: an error
	}{
		{"tag", map[string]string{ocispec.AnnotationRefName: "v1"}, byName, []string{"imported:v1"}},
		{"whole name", whole, byName, []string{"reg.example/x:v2"}},
		{"whole name that isn't ours", whole, transfer.Store{Extra: []transfer.Reference{{Name: "imported", Prefix: true}}}, nil},
		{"prefix of the whole name", whole, transfer.Store{Extra: []transfer.Reference{{Name: "reg.example", Prefix: true}}}, []string{"reg.example/x:v2"}},
		{"a prefix is no name that begins alike", whole, transfer.Store{Extra: []transfer.Reference{{Name: "reg.exam", Prefix: true}}}, nil},
		{"none", nil, byName, nil},
		{"digest", nil, transfer.Store{Extra: []transfer.Reference{{Name: "i", Prefix: true, AddDigest: true}}}, []string{"i" + at}},
		{"name and digest", whole, transfer.Store{Extra: []transfer.Reference{{Name: "i", Prefix: true, Overwrite: true, AddDigest: true}}}, []string{"i" + at, "reg.example/x:v2"}},
		{"no digest beside a name", whole, transfer.Store{Extra: []transfer.Reference{{Name: "i", Prefix: true, Overwrite: true, AddDigest: true, SkipNamedDigest: true}}}, []string{"reg.example/x:v2"}},
		{"index", nil, transfer.Store{Name: "the/index"}, []string{"the/index"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig := imagerig.New(t)
			err := importInto(rig, pack(t, layout(t, img, c.annotations)...), c.to)
			var got []string
			for name := range images(t, rig) {
				got = append(got, name)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
				t.Fatalf("images %q, want %q; %v", got, c.want, err)
			}
		})
	}
}

// docker save's form of old: folders for layers, links between them, and the list
// at the end.
func TestImportDocker(t *testing.T) {
	one, two := testLayer(t, "one"), imagerig.Gzip(t, testLayer(t, "two"))
	cfg := imagerig.JSON(t, ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers",
		DiffIDs: []digest.Digest{digest.FromBytes(one), digest.FromBytes(testLayer(t, "two")), digest.FromBytes(one)}}})
	data := pack(t,
		entry{name: "./aaa/", kind: tar.TypeDir},
		entry{name: "./aaa/layer.tar", data: one}, entry{name: "bbb/layer.tar", data: two},
		entry{name: "ccc/layer.tar", kind: tar.TypeSymlink, link: "../aaa/layer.tar"},
		entry{name: "cfg.json", data: cfg},
		entry{name: "manifest.json", data: []byte(`[{"Config":"cfg.json","RepoTags":["box:v1","reg.example/box:v2"],"Layers":["aaa/layer.tar","bbb/layer.tar","ccc/layer.tar"]}]`)},
		entry{name: "repositories", data: []byte(`{}`)})
	for _, compress := range []bool{false, true} {
		rig := imagerig.New(t)
		if err := rig.Transfer(rig.Ctx, transfer.Import{From: bytes.NewReader(data), Compress: compress}, byName, nil); err != nil {
			t.Fatal(err)
		}
		got := images(t, rig)
		if len(got) != 2 || got["docker.io/library/box:v1"] == "" || got["docker.io/library/box:v1"] != got["reg.example/box:v2"] {
			t.Fatalf("images: %v", got)
		}
		if has := rig.Has(digest.FromBytes(one)); !has {
			t.Fatal("the plain layer isn't stored")
		}
		m := readManifest(t, rig, digest.Digest(got["reg.example/box:v2"]))
		want := ocispec.MediaTypeImageLayer
		if compress {
			want = ocispec.MediaTypeImageLayerGzip
		}
		if len(m.Layers) != 3 || m.Layers[0].MediaType != want || m.Layers[1].MediaType != ocispec.MediaTypeImageLayerGzip || m.Layers[2].MediaType != want {
			t.Fatalf("layers: %+v", m.Layers)
		}
	}
}

func readManifest(t *testing.T, rig *imagerig.Rig, d digest.Digest) (m ocispec.Manifest) {
	t.Helper()
	ra, err := rig.Content.ReaderAt(rig.Ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	defer ra.Close()
	if err := json.NewDecoder(io.NewSectionReader(ra, 0, ra.Size())).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// sink is an archive's destination.
type sink struct {
	bytes.Buffer
	closed bool
}

func (s *sink) Close() error { s.closed = true; return nil }

func export(t *testing.T, rig *imagerig.Rig, o archive.ExportOptions, names ...string) []byte {
	t.Helper()
	var out sink
	from := transfer.Store{}
	for _, n := range names {
		from.Extra = append(from.Extra, transfer.Reference{Name: n})
	}
	if err := rig.Transfer(rig.Ctx, from, transfer.Export{To: &out, Options: o}, nil); err != nil {
		t.Fatal(err)
	}
	if !out.closed {
		t.Fatal("the destination isn't closed")
	}
	return out.Bytes()
}

// What is exported can be imported and is the same; and it is reproducible.
func TestExportImport(t *testing.T) {
	one, two := imagerig.NewImage(t, amd64, testLayer(t, "one")), imagerig.NewImage(t, arm64, testLayer(t, "two"))
	idx := imagerig.NewIndex(t, []ocispec.Platform{amd64, arm64}, one, two)
	rig := imagerig.New(t)
	rig.Store("docker.io/library/box:v1", idx)
	rig.Store("reg.example/one:v2", one)
	all := export(t, rig, archive.ExportOptions{AllPlatforms: true}, "docker.io/library/box:v1", "reg.example/one:v2")
	if !bytes.Equal(all, export(t, rig, archive.ExportOptions{AllPlatforms: true}, "docker.io/library/box:v1", "reg.example/one:v2")) {
		t.Fatal("two exports differ")
	}
	other := imagerig.New(t)
	if err := importInto(other, all, byName); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"docker.io/library/box:v1": idx.Target.Digest.String(), "reg.example/one:v2": one.Target.Digest.String()}
	if got := images(t, other); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("images %v, want %v", got, want)
	}
	if !other.Has(two.Layers[0].Digest) {
		t.Fatal("a platform is missing")
	}
	part := imagerig.New(t)
	if err := importInto(part, export(t, rig, archive.ExportOptions{Platforms: []ocispec.Platform{arm64}}, "docker.io/library/box:v1"), byName); err != nil {
		t.Fatal(err)
	}
	if got := images(t, part)["docker.io/library/box:v1"]; got != two.Target.Digest.String() || part.Has(one.Layers[0].Digest) {
		t.Fatalf("one platform's export is %s", got)
	}
}

// Docker's list stands beside the layout, for the image of this host.
func TestExportDocker(t *testing.T) {
	rig := imagerig.New(t)
	img := imagerig.NewImage(t, amd64, testLayer(t, "one"), testLayer(t, "two"))
	rig.Store("docker.io/library/box:v1", img)
	files := unpackTar(t, export(t, rig, archive.ExportOptions{AllPlatforms: true}, "docker.io/library/box:v1"))
	var list []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil || len(list) != 1 {
		t.Fatalf("%s: %v", files["manifest.json"], err)
	}
	if !slices.Equal(list[0].RepoTags, []string{"box:v1"}) || len(list[0].Layers) != 2 {
		t.Fatalf("%+v", list[0])
	}
	for _, name := range append(list[0].Layers, list[0].Config, "oci-layout", "index.json") {
		if files[name] == nil {
			t.Errorf("%s is not in it", name)
		}
	}
	if _, there := unpackTar(t, export(t, rig, archive.ExportOptions{AllPlatforms: true, SkipDocker: true}, "docker.io/library/box:v1"))["manifest.json"]; there {
		t.Error("manifest.json is there though it was not wanted")
	}
}

func unpackTar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name], _ = io.ReadAll(r)
	}
}

func TestImportUnpacks(t *testing.T) {
	rig := imagerig.New(t)
	if _, err := rig.DB.Snapshotter("overlayfs"); err != nil {
		t.Skip("needs root: snapshotters set owners and attributes")
	}
	to := byName
	to.Unpacks = []unpack.Target{{Platform: amd64, Snapshotter: "overlayfs"}}
	img := imagerig.NewImage(t, amd64, testLayer(t, "a"), testLayer(t, "b"))
	data := pack(t, layout(t, img, map[string]string{ocispec.AnnotationRefName: "v1"})...)
	for range 2 {
		if err := importInto(rig, data, to); err != nil {
			t.Fatal(err)
		}
		if n := len(rig.Chains("overlayfs")); n != 2 {
			t.Fatalf("%d snapshots, want 2", n)
		}
	}
}

// A blob that another namespace has is taken from there.
func TestImportIntoTwoNamespaces(t *testing.T) {
	rig := imagerig.New(t)
	img := imagerig.NewImage(t, amd64, testLayer(t, "a"))
	data := pack(t, layout(t, img, map[string]string{ocispec.AnnotationRefName: "v1"})...)
	for _, ns := range []string{"default", "other"} {
		ctx := namespaces.With(rig.Ctx, ns)
		if err := rig.DB.Namespaces().Create(ctx, namespaces.Info{Name: ns}); err != nil && !errdefs.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		if err := rig.Transfer(ctx, transfer.Import{From: bytes.NewReader(data)}, byName, nil); err != nil {
			t.Fatalf("%s: %v", ns, err)
		}
	}
}

func FuzzImport(f *testing.F) {
	img := imagerig.NewImage(f, amd64, testLayer(f, "a"))
	whole := pack(f, layout(f, img, map[string]string{ocispec.AnnotationRefName: "v1"})...)
	f.Add(whole)
	f.Add(imagerig.Gzip(f, whole))
	f.Add(pack(f, entry{name: "manifest.json", data: []byte(`[{"Config":"c","Layers":["l"]}]`)}, entry{name: "c", kind: tar.TypeSymlink, link: "c"}))
	rig := imagerig.New(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		err := importInto(rig, data, byName)
		for name, d := range images(t, rig) { // whatever it says: what has a name is whole
			img, err := rig.Images.Get(rig.Ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := rig.Transfer(rig.Ctx, transfer.Store{Name: name}, transfer.Export{To: &sink{}, Options: archive.ExportOptions{AllPlatforms: true}}, nil); err != nil {
				t.Fatalf("%s, %s: %v", name, d, err)
			}
			if err := rig.Images.Delete(rig.Ctx, img.Name, image.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil && errdefs.IsInternal(err) {
			t.Fatal(err)
		}
	})
}
