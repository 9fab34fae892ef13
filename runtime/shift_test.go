package runtime

import (
	"os"
	"strings"
	"testing"

	"github.com/orlop/orlop/core/mount"
)

func TestShift(t *testing.T) {
	plain := []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/a:/b", "ro"}}}
	out, users, err := Shift(plain)
	if err != nil || users != nil || strings.Join(out[0].Options, ",") != "lowerdir=/a:/b,ro" {
		t.Error(out, users, err)
	}
	for _, bad := range [][]string{{"uidmap=0:1:2"}, {"gidmap=0:1:2"}, {"uidmap=0:1", "gidmap=0:1:2"}, {"uidmap=0:1:2:3", "gidmap=0:1:2"},
		{"uidmap=0:-1:2", "gidmap=0:1:2"}, {"uidmap=", "gidmap=0:1:2"}, {"uidmap=" + strings.Repeat("0:1:2,", 400) + "0:1:2", "gidmap=0:1:2"}} {
		if _, _, err := Shift([]mount.Mount{{Type: "bind", Options: bad}}); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	out, users, err = Shift([]mount.Mount{{Type: "bind", Options: []string{"uidmap=0:100000:10,10:200000:5", "rbind", "gidmap=0:100000:10"}}})
	if err != nil || users == nil || len(out[0].Options) != 2 || !strings.HasPrefix(out[0].Options[1], "X-mount.idmap=/proc/self/fd/") {
		t.Error(out, users, err)
	}
}
