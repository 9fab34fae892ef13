package metadata

import (
	"os"

	"golang.org/x/sys/unix"
)

// The database's file has room of its own on the disk, so that what frees space can be
// written down when the disk is full: each transaction writes some pages anew before the
// old ones are free.
const (
	// roomAhead is that room at the least, in bytes: some hundred small transactions.
	roomAhead = 1 << 20
	// roomStep is how much the database may grow until the room is looked after again.
	roomStep = 256 << 10
)

// keepRoom reserves space after the part of the file that is in use. Called by one
// writer at a time. That a disk has none, or a file system can't, is no error: then a
// full disk refuses all writes.
func (db *DB) keepRoom(used int64) {
	if db.roomFor > 0 && used < db.roomFor+roomStep {
		return
	}
	f, err := os.OpenFile(db.bolt.Path(), os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}
	if unix.Fallocate(int(f.Fd()), 0, 0, max(info.Size(), used+roomStep+roomAhead)) == nil {
		db.roomFor = used
	}
}
