package userns

import (
	"os"
	"strings"
	"sync"
)

// Nested tells whether this process is in a user namespace that isn't the machine's, by
// its map of user ids: root there may make no devices, for one.
var Nested = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
})
