package userns

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Where subordinate ids are granted to users (subuid(5), subgid(5)).
const (
	subUIDs = "/etc/subuid"
	subGIDs = "/etc/subgid"
)

// maxRanges bounds an id map; the kernel takes 340 lines.
const maxRanges = 340

// Granted are the ids that the system's administrator has granted to a user and a group,
// by name or number, from 0 on in the order of the ranges. It is InvalidArgument if there
// are none; the text says what to add.
func Granted(user, group string) (*Maps, error) {
	uids, err := subIDs(subUIDs, "/etc/passwd", user)
	if err != nil {
		return nil, err
	}
	gids, err := subIDs(subGIDs, "/etc/group", group)
	if err != nil {
		return nil, err
	}
	return &Maps{UIDs: uids, GIDs: gids}, nil
}

// subIDs are the ranges that a file grants to a name or to its id, one after the other
// from the container's 0 on.
func subIDs(file, accounts, name string) ([]specs.LinuxIDMapping, error) {
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	known, err := os.ReadFile(accounts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list, err := parseSubIDs(data, append(otherNames(known, name), name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, err, errdefs.ErrInvalidArgument)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no ids for %s; add a line such as \"%s:100000:65536\", with a range that nobody else has: %w", file, name, name, errdefs.ErrInvalidArgument)
	}
	return list, nil
}

// otherNames are the id of a name, and the name of an id.
func otherNames(accounts []byte, name string) (out []string) {
	for line := range bytes.Lines(accounts) {
		f := strings.SplitN(strings.TrimSpace(string(line)), ":", 4)
		if len(f) < 4 {
			continue
		}
		switch name {
		case f[0]:
			out = append(out, f[2])
		case f[2]:
			out = append(out, f[0])
		}
	}
	return out
}

// parseSubIDs reads lines name:start:count.
func parseSubIDs(data []byte, names []string) ([]specs.LinuxIDMapping, error) {
	type span struct{ start, count uint64 }
	var spans []span
	for in := bufio.NewScanner(bytes.NewReader(data)); in.Scan(); {
		f := strings.Split(strings.TrimSpace(in.Text()), ":")
		if len(f) != 3 || !slices.Contains(names, f[0]) {
			continue
		}
		start, err := strconv.ParseUint(f[1], 10, 32)
		count, cerr := strconv.ParseUint(f[2], 10, 32)
		if err = errors.Join(err, cerr); err != nil {
			return nil, fmt.Errorf("%q: %w", in.Text(), err)
		}
		if start == 0 || count == 0 || start+count > 1<<32-1 {
			return nil, fmt.Errorf("%q is no range of ids without the host's root", in.Text())
		}
		spans = append(spans, span{start, count})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var out []specs.LinuxIDMapping
	next, end := uint64(0), uint64(0)
	for _, s := range spans {
		if s.start < end {
			return nil, fmt.Errorf("ranges of %s overlap at %d", names[len(names)-1], s.start)
		}
		if next+s.count > 1<<32-1 || len(out) >= maxRanges {
			return nil, errors.New("too many ids")
		}
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(next), HostID: uint32(s.start), Size: uint32(s.count)})
		next, end = next+s.count, s.start+s.count
	}
	return out, nil
}
