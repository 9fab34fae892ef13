package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
)

// Options of mounts that name the maps by which owners are shifted, in containerd's
// words: container:host:size, with commas between several.
const (
	uidMapOption = "uidmap="
	gidMapOption = "gidmap="
)

// Shift makes mounts with such options ones that internal/mounts makes. The file, nil
// if there are none, must be kept until they are made.
func Shift(list []mount.Mount) ([]mount.Mount, *os.File, error) {
	out := make([]mount.Mount, len(list))
	var users *os.File
	for i, m := range list {
		uids, gids, kept, err := takeMaps(m.Options)
		if err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", m.Type, err)
		}
		out[i] = m
		if len(uids) == 0 {
			continue
		}
		if users, err = mappedUserns(uids, gids); err != nil {
			return nil, nil, err
		}
		out[i].Options = append(kept, mounts.IDMap(fmt.Sprintf("/proc/self/fd/%d", users.Fd())))
	}
	return out, users, nil
}

// takeMaps splits the maps off a list of options.
func takeMaps(options []string) (uids, gids []specs.LinuxIDMapping, kept []string, err error) {
	for _, o := range options {
		if text, ok := strings.CutPrefix(o, uidMapOption); ok {
			uids, err = parseMaps(text)
		} else if text, ok := strings.CutPrefix(o, gidMapOption); ok {
			gids, err = parseMaps(text)
		} else {
			kept = append(kept, o)
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
	if (len(uids) == 0) != (len(gids) == 0) {
		return nil, nil, nil, invalid("maps of users and of groups belong together")
	}
	return uids, gids, kept, nil
}

func parseMaps(text string) ([]specs.LinuxIDMapping, error) {
	var out []specs.LinuxIDMapping
	for part := range strings.SplitSeq(text, ",") {
		var n [3]uint32
		fields := strings.Split(part, ":")
		if len(fields) != len(n) || len(out) >= maxMappings {
			return nil, invalid("map of ids %q", text)
		}
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, invalid("map of ids %q", text)
			}
			n[i] = uint32(v)
		}
		out = append(out, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return out, nil
}

// openShifted makes a mount whose owners are shifted.
func openShifted(m mount.Mount) (int, error) {
	f, err := mounts.OpenAny(m)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
