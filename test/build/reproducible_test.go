package build

import (
	"encoding/json"
	"os"
	"testing"
)

// TestReproducible builds the same on two machines that know nothing of each other.
func TestReproducible(t *testing.T) {
	t.Parallel()
	var digests []string
	for range 2 {
		r := newRig(t, "")
		r.write("app.txtar", app)
		s := r.readScene(t, r.path("app.txtar"))
		r.docker("buildx", "build", "--output", "type=image,name=again,rewrite-timestamp=true", "--metadata-file", r.path("meta.json"), s.dir)
		data, err := os.ReadFile(r.path("meta.json"))
		var meta map[string]any
		if err != nil || json.Unmarshal(data, &meta) != nil {
			t.Fatalf("%v: %s", err, data)
		}
		id, _ := meta["containerimage.digest"].(string)
		if stored := r.docker("inspect", "-f", "{{.Id}}", "again"); stored != id {
			t.Errorf("the image is %s, the build says %s", stored, id)
		}
		digests = append(digests, id)
		r.close()
		r.daemon = nil
	}
	if digests[0] == "" || digests[0] != digests[1] {
		t.Errorf("two daemons make %s", digests)
	}
}
