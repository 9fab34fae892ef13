package engine

import (
	"strings"
	"testing"
)

func TestReadMapsRefuses(t *testing.T) {
	for _, setting := range []string{":", "a:", ":b"} {
		if _, err := readMaps(setting); err == nil || !strings.Contains(err.Error(), "user[:group]") {
			t.Errorf("%q: %v", setting, err)
		}
	}
	if m, err := readMaps(""); m != nil || err != nil {
		t.Error(m, err)
	}
}
