package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxCached is how many images are remembered; beyond it all are forgotten.
	maxCached = 256
	// maxCachedFile bounds the account files that are remembered.
	maxCachedFile = 64 << 10
)

// cacheDir is where images are remembered until the next reboot.
var cacheDir = "/run/orlop/orlopctl"

// known is what a run needs to know of an image and what can never change,
// since it belongs to the digest of its manifest: so that another run needs no
// blobs, and no look into the root file system.
type known struct {
	Config imagespec.ImageConfig
	Chain  string
	// Snapshotter is the one that had it last time. If that has changed, what
	// the daemon answers shows it.
	Snapshotter string
	// HasAccounts tells whether Passwd and Group, the image's account files, were
	// looked at; they are empty if it has none.
	HasAccounts   bool
	Passwd, Group []byte
}

// cacheFile names the file for an image of this daemon and namespace.
func (c *Client) cacheFile(target string) string {
	sum := sha256.Sum256([]byte(c.Address + "\x00" + c.Namespace + "\x00" + target))
	return filepath.Join(cacheDir, hex.EncodeToString(sum[:16]))
}

// recall returns what is remembered of an image, nil if nothing is.
func (c *Client) recall(target string) *known {
	if !ownDir(cacheDir) {
		return nil
	}
	data, err := os.ReadFile(c.cacheFile(target))
	if err != nil {
		return nil
	}
	var k known
	if json.Unmarshal(data, &k) != nil || k.Chain == "" {
		return nil
	}
	return &k
}

// remember keeps what is known of an image. That it can't be kept is no error.
func (c *Client) remember(target string, k *known) {
	if len(k.Passwd) > maxCachedFile || len(k.Group) > maxCachedFile {
		return
	}
	data, err := json.Marshal(k)
	if err != nil || os.MkdirAll(cacheDir, 0o700) != nil || !ownDir(cacheDir) {
		return
	}
	if have, err := os.ReadDir(cacheDir); err == nil && len(have) >= maxCached {
		for _, e := range have {
			os.Remove(filepath.Join(cacheDir, e.Name()))
		}
	}
	f, err := os.CreateTemp(cacheDir, "new-")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if f.Close() != nil || err != nil || os.Rename(f.Name(), c.cacheFile(target)) != nil {
		os.Remove(f.Name())
	}
}

// forget drops what is remembered of an image.
func (c *Client) forget(target string) { os.Remove(c.cacheFile(target)) }

// ownDir reports whether a folder belongs to this user, and only to them.
func ownDir(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
