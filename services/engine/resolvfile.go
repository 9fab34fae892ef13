package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// resolvSums is the file beside a container's resolv.conf that tells what of it is ours:
// the sums of what was written last, and of what that was to replace. A resolv.conf of
// another sum was edited in the container.
const resolvSums = "resolv.sums"

// writeResolv writes a container's resolv.conf, which may be mounted: its inode stays.
// One that somebody has edited is left. Sums come first, so that whatever a daemon that
// is killed leaves is known as ours.
func writeResolv(dir string, text []byte) error {
	path, sums := filepath.Join(dir, resolvFile), filepath.Join(dir, resolvSums)
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known, err := os.ReadFile(sums)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := sumOf(have)
	edited := len(have) > 0 && len(known) > 0 && !strings.Contains(string(known), before)
	if edited || bytes.Equal(have, text) && len(known) > 0 {
		return nil
	}
	if err := os.WriteFile(sums, []byte(sumOf(text)+"\n"+before+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
