package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// maxID is the largest user or group id. The kernel has 32 bits, but larger
	// ones have been read as negative and as 0, that is root.
	maxID = 1<<31 - 1
	// maxAccounts bounds /etc/passwd and /etc/group, which an image controls.
	maxAccounts = 4 << 20
)

// What the image's files lack.
var (
	ErrNoUser  = errors.New("the image has no such user")
	ErrNoGroup = errors.New("the image has no such group")
)

// NeedsAccounts reports whether a user can only be resolved with the image's
// /etc/passwd and /etc/group: unless it is a uid and a gid, everything does.
func NeedsAccounts(u string, extra []string) bool {
	name, group, both := strings.Cut(u, ":")
	return !both || !numeric(name) || !numeric(group) || slices.ContainsFunc(extra, func(g string) bool { return !numeric(g) })
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// user resolves the process's user, group and supplementary groups.
func (o *Options) user() (specs.User, error) {
	name := o.User
	if name == "" {
		name = o.Image.User
	}
	if err := checkIDs(append(strings.SplitN(name, ":", 2), o.ExtraGroups...)); err != nil {
		return specs.User{}, fmt.Errorf("user %q: %w", name, err)
	}
	passwd, group, err := o.accounts()
	if err != nil {
		return specs.User{}, err
	}
	if o.Rootfs == nil && NeedsAccounts(name, o.ExtraGroups) && !onlyIDs(name, o.ExtraGroups) {
		return specs.User{}, fmt.Errorf("user %q: names can't be resolved without the root file system", name)
	}
	found, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("user %q: %w", name, plain(err))
	}
	extra, err := user.GetAdditionalGroups(o.ExtraGroups, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("groups %v: %w", o.ExtraGroups, plain(err))
	}
	return limited(name, found, extra)
}

// limited makes the spec's user of what was found. The ids come from the image's
// files too, so they are checked once more.
func limited(name string, found *user.ExecUser, extra []int) (specs.User, error) {
	groups := append(found.Sgids, extra...)
	for _, id := range append([]int{found.Uid, found.Gid}, groups...) {
		if id < 0 || id > maxID {
			return specs.User{}, fmt.Errorf("user %q: id %d is not between 0 and %d", name, id, maxID)
		}
	}
	slices.Sort(groups)
	// A process's own group is among its supplementary ones, so that dropping
	// it in one place doesn't bypass a negative group permission.
	groups = slices.DeleteFunc(slices.Compact(groups), func(gid int) bool { return gid == found.Gid })
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{uint32(found.Gid)}}
	for _, gid := range groups {
		u.AdditionalGids = append(u.AdditionalGids, uint32(gid))
	}
	return u, nil
}

// onlyIDs reports whether all parts are ids, or empty.
func onlyIDs(u string, extra []string) bool {
	name, group, _ := strings.Cut(u, ":")
	return !slices.ContainsFunc(append([]string{name, group}, extra...), func(s string) bool { return s != "" && !numeric(s) })
}

// checkIDs refuses numbers that are no id, before anything takes them for a
// name or cuts them to 32 bits.
func checkIDs(parts []string) error {
	for _, p := range parts {
		digits := strings.TrimLeft(p, "+-")
		if p == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		id, err := strconv.ParseInt(p, 10, 64)
		if err != nil || id < 0 || id > maxID {
			return fmt.Errorf("id %s is not between 0 and %d", p, maxID)
		}
	}
	return nil
}

// accounts reads /etc/passwd and /etc/group; an image needs neither.
func (o *Options) accounts() (passwd, group []byte, err error) {
	if o.Rootfs == nil {
		return nil, nil, nil
	}
	if passwd, err = readBounded(o.Rootfs, "etc/passwd"); err != nil {
		return nil, nil, err
	}
	group, err = readBounded(o.Rootfs, "etc/group")
	return passwd, group, err
}

func readBounded(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("image's /%s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("image's /%s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxAccounts {
		return nil, fmt.Errorf("image's /%s is no file of at most %d bytes", name, maxAccounts)
	}
	return io.ReadAll(io.LimitReader(f, maxAccounts))
}

// plain drops the library's own words.
func plain(err error) error {
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		return ErrNoUser
	case errors.Is(err, user.ErrNoGroupEntries):
		return ErrNoGroup
	}
	return err
}

// User resolves a user as [Options.User] would be, in a root file system.
func User(name string, extra []string, rootfs fs.FS) (specs.User, error) {
	o := Options{User: name, ExtraGroups: extra, Rootfs: rootfs}
	return o.user()
}
