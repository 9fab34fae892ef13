// Package voucher lets one part of a process tell another, through a request that
// anybody could send, that it holds a blob: a push from this daemon to the daemon's own
// registry then moves no bytes, though knowing a digest gives nobody else a right.
//
// A word is an HMAC of the host, the repository and the digest under a secret that
// never leaves the process. It is worth nothing for another repository, at another host,
// or after a restart; and whoever sees it is about to be sent the blob anyway.
package voucher

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"
)

// Header carries the word.
const Header = "Orlop-Holds"

// Voucher gives words and checks them. It is safe for concurrent use.
type Voucher struct{ key [32]byte }

// New makes one with a secret of its own.
func New() *Voucher {
	v := &Voucher{}
	rand.Read(v.key[:]) // never fails (crypto/rand)
	return v
}

// Word is what the holder of a blob sends to a repository at a host.
func (v *Voucher) Word(host, repo string, dgst digest.Digest) string {
	return hex.EncodeToString(v.sum(host, repo, dgst))
}

// Good tells whether a word is right; a nil Voucher believes nobody.
func (v *Voucher) Good(word, host, repo string, dgst digest.Digest) bool {
	if v == nil || word == "" {
		return false
	}
	got, err := hex.DecodeString(word)
	return err == nil && hmac.Equal(got, v.sum(host, repo, dgst))
}

func (v *Voucher) sum(host, repo string, dgst digest.Digest) []byte {
	h := hmac.New(sha256.New, v.key[:])
	for _, part := range []string{host, repo, dgst.String()} {
		h.Write([]byte(part))
		h.Write([]byte{0}) // none of them has one
	}
	return h.Sum(nil)
}
