package security

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/test/imagerig"
)

// archiveOf writes an archive as it is read, so that it can be endless.
func archiveOf(write func(t *tar.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := write(t)
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

func put(t *tar.Writer, name string, data []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := t.Write(data)
	return err
}

func putLayout(t *tar.Writer, index string) error {
	if err := put(t, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return put(t, "index.json", []byte(index))
}

// zeros is a file of n zeros in an archive.
func zeros(t *tar.Writer, name string, n int64) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Size: n, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for ; n > 0; n -= int64(len(chunk)) {
		if _, err := t.Write(chunk[:min(n, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return nil
}

var anyName = transfer.Store{Name: "imported", Extra: []transfer.Reference{{Name: "i", Prefix: true, Overwrite: true, AddDigest: true}}}

// Archives that attack end in an error of the caller's, take little memory, name no
// image and leave no blob under a digest that isn't its.
func TestHostileArchives(t *testing.T) {
	fake := digest.FromString("something else")
	one := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: fake, Size: 1}
	for name, write := range map[string]func(t *tar.Writer) error{
		"huge index.json (CVE-2023-25153)": func(w *tar.Writer) error { return zeros(w, "index.json", 1<<30) },
		"huge manifest.json":               func(w *tar.Writer) error { return zeros(w, "manifest.json", 1<<30) },
		"huge manifest": func(w *tar.Writer) error {
			h := digest.Canonical.Digester()
			io.CopyN(h.Hash(), zeroReader{}, manifest.MaxSize+1)
			if err := zeros(w, "blobs/sha256/"+h.Digest().Encoded(), manifest.MaxSize+1); err != nil {
				return err
			}
			return putLayout(w, fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, one.MediaType, h.Digest(), manifest.MaxSize+1))
		},
		"huge config": func(w *tar.Writer) error {
			if err := zeros(w, "c", manifest.MaxSize+1); err != nil {
				return err
			}
			return put(w, "manifest.json", []byte(`[{"Config":"c","Layers":[]}]`))
		},
		"other bytes than the name's": func(w *tar.Writer) error {
			if err := put(w, "blobs/sha256/"+fake.Encoded(), []byte("evil")); err != nil {
				return err
			}
			return putLayout(w, `{"manifests":[]}`)
		},
		"nothing that it names": func(w *tar.Writer) error {
			return putLayout(w, fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, one.MediaType, fake))
		},
		"links in a circle": func(w *tar.Writer) error {
			for _, l := range [][2]string{{"a", "b"}, {"b", "a"}} {
				if err := w.WriteHeader(&tar.Header{Name: l[0], Linkname: l[1], Typeflag: tar.TypeSymlink}); err != nil {
					return err
				}
			}
			return put(w, "manifest.json", []byte(`[{"Config":"a","Layers":[]}]`))
		},
		"link to the host": func(w *tar.Writer) error {
			if err := w.WriteHeader(&tar.Header{Name: "c", Linkname: "../../../../etc/passwd", Typeflag: tar.TypeSymlink}); err != nil {
				return err
			}
			return put(w, "manifest.json", []byte(`[{"Config":"c","Layers":["/etc/passwd"]}]`))
		},
		"image and index at once": func(w *tar.Writer) error {
			return putLayout(w, fmt.Sprintf(`{"config":{"digest":%q},"manifests":[{"digest":%q}]}`, fake, fake))
		},
		"digest that climbs": func(w *tar.Writer) error {
			return putLayout(w, `{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}`)
		},
		"10⁶ entries": func(w *tar.Writer) error {
			for i := range 1_000_000 {
				if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("l", i), Linkname: "x", Typeflag: tar.TypeSymlink}); err != nil {
					return err
				}
			}
			return nil
		},
		"many images": func(w *tar.Writer) error {
			return put(w, "manifest.json", []byte("["+strings.Repeat(`{"Config":"c"},`, 100_000)+`{"Config":"c"}]`))
		},
		"bad name": func(w *tar.Writer) error {
			if err := put(w, "c", []byte(`{"rootfs":{"diff_ids":[]}}`)); err != nil {
				return err
			}
			return put(w, "manifest.json", []byte(`[{"Config":"c","RepoTags":["../../x:1"],"Layers":[]}]`))
		},
		"nothing": func(*tar.Writer) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			rig := imagerig.New(t)
			peak := heapPeak(func() {
				err := rig.Transfer(rig.Ctx, transfer.Import{From: archiveOf(write)}, anyName, nil)
				if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) && !errdefs.IsDataLoss(err) {
					t.Errorf("got %v", err)
				}
			})
			if peak > 128<<20 {
				t.Errorf("it took %d MiB of memory", peak>>20)
			}
			if all, _ := rig.Images.List(rig.Ctx); len(all) != 0 {
				t.Errorf("images: %v", all)
			}
			if rig.Has(fake) {
				t.Error("bytes are stored under a digest that isn't theirs")
			}
			if leases, _ := rig.Leases.List(rig.Ctx); len(leases) != 0 {
				t.Errorf("leases: %v", leases)
			}
		})
	}
}

// Names in archives are never files of ours.
func TestArchiveNamesAreNoFiles(t *testing.T) {
	rig := imagerig.New(t)
	target := filepath.Join(t.TempDir(), "planted")
	err := rig.Transfer(rig.Ctx, transfer.Import{From: archiveOf(func(w *tar.Writer) error {
		for _, name := range []string{target, strings.Repeat("../", 40) + target[1:], "blobs/sha256/../../../../../../.." + target} {
			if err := put(w, name, []byte("evil")); err != nil {
				return err
			}
		}
		return putLayout(w, `{"manifests":[]}`)
	})}, anyName, nil)
	if err == nil {
		t.Error("an archive without an image is imported")
	}
	if _, err := os.Lstat(target); err == nil {
		t.Fatal("a file was written")
	}
}

// A compressed archive stops at its bound, not at the disk's.
func TestArchiveBomb(t *testing.T) {
	cfg := imagerig.Config{Pull: pull.DefaultConfig(), Push: push.DefaultConfig(), Archive: archive.Config{MaxBytes: 8 << 20, MaxEntries: 100}, Unpack: unpack.DefaultConfig()}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, archiveOf(func(w *tar.Writer) error { return zeros(w, "layer.tar", 64<<20) })); err != nil {
		t.Fatal(err)
	}
	z.Close()
	rig := imagerig.NewWith(t, cfg)
	if err := rig.Transfer(rig.Ctx, transfer.Import{From: &b}, anyName, nil); !errdefs.IsResourceExhausted(err) {
		t.Fatal(err)
	}
	if left, err := rig.Content.ListStatuses(rig.Ctx); err != nil || len(left) != 0 {
		t.Fatalf("ingests are left: %v, %v", left, err)
	}
	sparse := bytes.NewReader(sparseArchive(t))
	if err := rig.Transfer(rig.Ctx, transfer.Import{From: sparse}, anyName, nil); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "sparse") {
		t.Fatalf("a sparse file: %v", err)
	}
}

// sparseArchive holds a file of 1 TiB in a few blocks (GNU's sparse format 1.0).
func sparseArchive(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	data := make([]byte, 512)
	copy(data, "1\n1099511627775\n1\n")
	h := &tar.Header{Name: "GNUSparseFile.0/x", Size: 513, Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"EXAMPLE.sparse.major": "1", "EXAMPLE.sparse.minor": "0", "EXAMPLE.sparse.name": "layer.tar", "EXAMPLE.sparse.realsize": "1099511627776",
	}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	w.Write(append(data, 'x'))
	w.Close()
	// Go's writer doesn't write these keys; the lengths stay right this way.
	return sparseKeys(b.Bytes())
}

// sparseKeys renames the records and gives each its new length.
func sparseKeys(archive []byte) []byte {
	out := bytes.Clone(archive)
	var records []byte
	for _, r := range [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "layer.tar"}, {"GNU.sparse.realsize", "1099511627776"}} {
		line := fmt.Sprintf(" %s=%s\n", r[0], r[1])
		records = fmt.Appendf(records, "%d%s", len(line)+2, line)
	}
	clear(out[512:1024])
	copy(out[512:], records)
	copy(out[124:136], fmt.Sprintf("%011o\x00", len(records)))
	copy(out[148:156], "        ")
	var sum int
	for _, c := range out[:512] {
		sum += int(c)
	}
	copy(out[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return out
}
