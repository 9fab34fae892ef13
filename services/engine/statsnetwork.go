package engine

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// NetworkSample counts what an interface of a container has received and sent.
type NetworkSample struct {
	Interface                               string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// maxInterfaces bounds how many interfaces are counted.
const maxInterfaces = 256

// networkSamples reads the counters of a process's interfaces (proc(5), /proc/net/dev),
// the loopback's aside.
func networkSamples(pid int) []NetworkSample {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil // it has just ended
	}
	defer f.Close()
	var out []NetworkSample
	for lines := bufio.NewScanner(f); lines.Scan() && len(out) < maxInterfaces; {
		name, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		fields := strings.Fields(rest)
		if !ok || name == "lo" || len(fields) < 12 {
			continue
		}
		n := func(i int) uint64 {
			v, _ := strconv.ParseUint(fields[i], 10, 64)
			return v
		}
		out = append(out, NetworkSample{Interface: name, RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)})
	}
	return out
}
