package cgroup

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

const (
	// defaultSlice is where scopes go that no slice is named for.
	defaultSlice = "system.slice"
	// defaultPrefix begins the names of scopes that no prefix is named for.
	defaultPrefix = "orlop"
	// maxUnitName is UNIT_NAME_MAX of systemd, without its zero byte.
	maxUnitName = 255
)

// Unit is a scope of systemd's, before and after it exists.
type Unit struct {
	// Name is the unit's, such as orlop-web.scope.
	Name string
	// Slice is the unit above it, such as system.slice.
	Slice string
}

// ParseUnit reads a cgroupsPath of the form slice:prefix:name, as runc takes it.
// An empty one is a scope in system.slice named after id; so are empty parts.
func ParseUnit(cgroupsPath, id string) (Unit, error) {
	parts := []string{"", defaultPrefix, id}
	if cgroupsPath != "" {
		parts = strings.Split(cgroupsPath, ":")
	}
	if len(parts) != 3 {
		return Unit{}, fmt.Errorf("cgroupsPath %q is not of the form slice:prefix:name, which systemd's driver needs", cgroupsPath)
	}
	u := Unit{Slice: parts[0]}
	if u.Slice == "" {
		u.Slice = defaultSlice
	}
	if _, err := expandSlice(u.Slice); err != nil {
		return Unit{}, err
	}
	name := parts[2]
	if name == "" {
		name = id
	}
	if parts[1] != "" {
		name = parts[1] + "-" + name
	}
	u.Name = escapeUnit(name) + ".scope"
	if len(u.Name) > maxUnitName {
		return Unit{}, fmt.Errorf("unit name %q is longer than %d bytes", u.Name, maxUnitName)
	}
	return u, nil
}

// expandSlice turns a-b.slice into /a.slice/a-b.slice, as the dashes in a slice's
// name tell what it is in.
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if slice == "-.slice" {
		return "/", nil
	}
	if !ok || escapeUnit(name) != name {
		return "", fmt.Errorf("slice %q is no name such as system.slice", slice)
	}
	dir, prefix := "/", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("slice %q has an empty part", slice)
		}
		dir = path.Join(dir, prefix+part+".slice")
		prefix += part + "-"
	}
	return dir, nil
}

// escapeUnit replaces what a unit's name may not have, as systemd-escape does.
func escapeUnit(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.-@"
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(plain, s[i]) >= 0 || s[i] == '\\' {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
	}
	return b.String()
}

// path is where systemd makes the unit's group below its own.
func (u Unit) path(own string) string {
	dir, _ := expandSlice(u.Slice) // checked by ParseUnit
	return path.Join("/", own, dir, u.Name)
}

// at is the group at an absolute path, which need not exist.
func (h *Host) at(path string) *Group {
	g := &Group{Path: path, Unified: h.Unified()}
	for _, v := range h.V1 {
		g.V1 = append(g.V1, Hierarchy{Dir: filepath.Join(v.Dir, path), Controllers: v.Controllers})
	}
	if h.V2 != "" {
		g.V2 = filepath.Join(h.V2, path)
	}
	return g
}
