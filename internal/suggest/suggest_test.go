package suggest

import "testing"

func TestClosest(t *testing.T) {
	words := []string{"overlayfs", "native", "address", "max_recv_message_size", "io.containerd.gc.v1.scheduler"}
	for word, want := range map[string]string{
		"overlyfs":              "overlayfs",
		"OverlayFS":             "overlayfs",
		"adress":                "address",
		"addrses":               "address",
		"max_recv_mesage_size":  "max_recv_message_size",
		"scheduler":             "io.containerd.gc.v1.scheduler",
		"btrfs":                 "",
		"x":                     "",
		"":                      "",
		"completely-else-wrong": "",
	} {
		if got := Closest(word, words); got != want {
			t.Errorf("Closest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsASwapOnce(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"ab", "ba", 1}, {"abc", "abc", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
