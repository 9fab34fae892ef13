package build

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestScenes builds each case through every door, and wants the same image.
func TestScenes(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		s := r.readScene(t, file)
		t.Run(s.name, func(t *testing.T) { r.play(t, s) })
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("builds have left:\n%s", strings.Join(left, "\n"))
	}
}

// play tries each door that the case may go through.
func (r *rig) play(t *testing.T, s *scene) {
	var first []*image
	var firstDoor door
	for _, d := range doors {
		if !s.may(d.name) {
			continue
		}
		images := r.through(t, d, s)
		if images == nil {
			continue
		}
		if first == nil {
			first, firstDoor = images, d
			continue
		}
		if len(first) != len(images) {
			t.Fatalf("%s makes %d images, %s %d", firstDoor.name, len(first), d.name, len(images))
		}
		for i := range images {
			compare(t, firstDoor, first[i], d, images[i])
		}
	}
}

// through builds by one door, and checks what the case says of the image.
func (r *rig) through(t *testing.T, d door, s *scene) []*image {
	t.Helper()
	archive, out, err := d.build(r, s, "scene-"+s.name+":"+d.name)
	if words := s.lines["fails"]; words != nil {
		if err == nil || !strings.Contains(out, words[0]) {
			t.Errorf("%s: %v, want an error with %q\n%s", d.name, err, words[0], out)
		}
		return nil
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", d.name, err, out)
		return nil
	}
	images, err := readImages(archive)
	if err != nil {
		t.Errorf("%s: %v", d.name, err)
		return nil
	}
	slices.SortFunc(images, func(a, b *image) int { return strings.Compare(a.platform, b.platform) })
	for _, img := range images {
		for _, fact := range s.want {
			if err := img.check(fact); err != nil {
				t.Errorf("%s (%s): %v", d.name, img.platform, err)
			}
		}
	}
	return images
}

// compare wants two images to be the same: to the last bit if both doors have times
// of the epoch, else in files and config.
func compare(t *testing.T, da door, a *image, db door, b *image) {
	t.Helper()
	if a.platform != b.platform {
		t.Errorf("%s is for %s, %s for %s", da.name, a.platform, db.name, b.platform)
	}
	if !reflect.DeepEqual(a.settings, b.settings) {
		t.Errorf("config by %s: %+v\nby %s: %+v", da.name, a.settings, db.name, b.settings)
	}
	if !reflect.DeepEqual(a.config.History, b.config.History) {
		t.Errorf("history by %s: %+v\nby %s: %+v", da.name, a.config.History, db.name, b.config.History)
	}
	if da.exact && db.exact && !slices.Equal(a.layers, b.layers) {
		t.Errorf("layers by %s: %s\nby %s: %s", da.name, a.layers, db.name, b.layers)
	}
	names := slices.Sorted(maps.Keys(a.files))
	if other := slices.Sorted(maps.Keys(b.files)); !slices.Equal(names, other) {
		t.Errorf("files by %s: %s\nby %s: %s", da.name, names, db.name, other)
	}
	for _, name := range names {
		x, y := a.files[name], b.files[name]
		x.data, y.data = nil, nil
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s by %s: %+v\nby %s: %+v", name, da.name, x, db.name, y)
		}
	}
}
