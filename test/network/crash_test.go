package network_test

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kills is how often the daemon is killed.
const kills = 8

// TestKilled kills the daemon while containers come and go, and networks with them.
// The next one finds all that was begun: in the end nothing is left, and every
// address and port can be had again.
func TestKilled(t *testing.T) {
	h := newHost(t)
	before := h.place.Snapshot()
	h.start()
	h.image()
	for range kills {
		if out, err := h.try("sh", "-c", "docker network inspect n >/dev/null 2>&1 || docker network create --subnet 10.66.0.0/29 n"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var work sync.WaitGroup
		for _, args := range [][]string{
			{"run", "--rm", "--network", "n", "-p", "8080:80", "box", "true"}, {"run", "--rm", "-p", "8081:80", "box", "true"},
			{"run", "-d", "--network", "n", "box", "sleep", "1000"}, {"network", "create", "m"},
		} {
			work.Go(func() { _, _ = h.try("docker", args...) })
		}
		work.Go(func() { // its ports move
			_, _ = h.try("sh", "-c", "docker run -d --name hot -p 8082:80 box sleep 1000; docker network connect --gw-priority 1 n hot; docker network disconnect bridge hot")
		})
		time.Sleep(time.Duration(rand.IntN(240)) * time.Millisecond)
		h.stop(syscall.SIGKILL)
		work.Wait()
		h.start()
		if out, err := h.try("sh", "-c", "docker ps -aq | xargs -r docker rm -f; docker network rm m"); err != nil && out == "" {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// Of 8 addresses 5 are for containers: they are all free again.
	for range 5 {
		h.docker("run", "-d", "--network", "n", "box", "sleep", "1000")
	}
	h.docker("run", "--rm", "-p", "8080:80", "-p", "8081:81", "-p", "8082:82", "box", "true")
	h.clean(before)
}
