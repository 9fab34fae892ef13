// Package metadata is the database behind core's stores: namespaces, labels,
// images, containers, sandboxes, leases, content and snapshots, in one bbolt
// file. It is the only importer of bbolt.
//
// # Layout
//
//	meta                               schema version, daemon UUID, snapshot ID high-water mark
//	networks/<id>                      one JSON record a network of the host
//	ns/<namespace>/labels              the namespace's own record
//	ns/<namespace>/<table>/<key>       one JSON record a key
//
// Tables are images, containers, sandboxes, leases, resources, content,
// ingests, mounts, and for each snapshotter snapshots.<name> and children.<name>.
//
// # Concurrency
//
// Reads are bbolt read transactions and never wait. Writes that come at the
// same time share one transaction and one fsync (group.go). Lock order: blobMu,
// then the writer's queue, then touchMu.
//
// # Crash
//
// No backend I/O happens inside a transaction. What a backend makes is invisible
// until a transaction names it, under an ID that is used once; what a
// transaction stops naming is removed afterwards. So the rest of a crash is
// always something that a backend holds and the database doesn't name, and
// [DB.Reconcile] removes it at start.
package metadata

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
)

// Config is the database's configuration.
type Config struct {
	// ContentSharing says whether knowing a digest is enough to use a blob that
	// another namespace has ("shared"), or it must be uploaded again ("isolated").
	ContentSharing string `toml:"content_sharing_policy"`
	// LockTimeout bounds the wait for another process that has the database open.
	LockTimeout time.Duration `toml:"lock_timeout"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config {
	return Config{ContentSharing: "shared", LockTimeout: time.Second}
}

// Validate checks the values.
func (c Config) Validate() error {
	if c.ContentSharing != "shared" && c.ContentSharing != "isolated" {
		return fmt.Errorf("content_sharing_policy is %q, it must be \"shared\" or \"isolated\"", c.ContentSharing)
	}
	return nil
}

// Backends are what the database names things in.
type Backends struct {
	Content content.Store
	Drivers map[string]snapshotters.Driver // by snapshotter name
	Events  event.Publisher                // nil: nobody listens
}

// DB is an open database. All methods are safe for concurrent use.
type DB struct {
	cfg   Config
	bolt  *bolt.DB
	back  Backends
	group group
	ids   idBlock
	// roomFor is the size for which room was made last; the writer's alone.
	roomFor int64

	// blobMu keeps a blob that is being deleted from being adopted: adopters hold
	// it shared, the sweep exclusively, for a rename at the most.
	blobMu sync.RWMutex

	collectMu sync.Mutex // one collection at a time
	touchMu   sync.Mutex
	marking   bool
	touched   []gc.Node
	onChange  atomic.Pointer[func(deletion bool)]
	route     atomic.Pointer[func(repo, reference string) []string] // of the outbox
	unmount   atomic.Pointer[func(context.Context, mount.Activation) error]
}

const schemaVersion = "1"

var (
	bucketMeta = []byte("meta")
	bucketNS   = []byte("ns")
	keyVersion = []byte("version")
	keyUUID    = []byte("uuid")
	keyNextID  = []byte("next-snapshot-id")
)

// Open opens or makes the database file at path. A file of another process is
// Unavailable, a damaged one DataLoss with advice; neither is touched.
func Open(path string, cfg Config, back Backends) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("metadata: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	b, err := openBolt(path, cfg.LockTimeout)
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, bolt: b, back: back}
	db.group.run = db.runGroup
	if err := db.bolt.Update(initialise); err != nil {
		b.Close()
		return nil, fmt.Errorf("metadata %s: %w", path, err)
	}
	err = b.View(func(t *bolt.Tx) error {
		db.keepRoom(t.Size())
		return nil
	})
	return db, err
}

// openBolt turns bbolt's panics on damaged pages into an error that says what to do.
func openBolt(path string, wait time.Duration) (b *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("metadata %s is damaged (%v): move it aside and restore a copy: %w", path, r, errdefs.ErrDataLoss)
		}
	}()
	b, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	switch {
	case errors.Is(err, bolt.ErrTimeout):
		return nil, fmt.Errorf("metadata %s is in use: another daemon runs on the same root: %w", path, errdefs.ErrUnavailable)
	case errors.Is(err, bolt.ErrInvalid), errors.Is(err, bolt.ErrChecksum), errors.Is(err, bolt.ErrVersionMismatch):
		return nil, fmt.Errorf("metadata %s is damaged (%w): move it aside and restore a copy: %w", path, err, errdefs.ErrDataLoss)
	case err != nil:
		return nil, fmt.Errorf("metadata %s: %w", path, err)
	}
	return b, nil
}

func initialise(t *bolt.Tx) error {
	meta, err := t.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	if _, err := t.CreateBucketIfNotExists(bucketNS); err != nil {
		return err
	}
	switch v := string(meta.Get(keyVersion)); v {
	case schemaVersion:
		return nil
	case "":
		if err := meta.Put(keyUUID, []byte(newUUID())); err != nil {
			return err
		}
		return meta.Put(keyVersion, []byte(schemaVersion))
	default:
		return fmt.Errorf("schema version %s is newer than this program's %s: %w", v, schemaVersion, errdefs.ErrFailedPrecondition)
	}
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// UUID identifies this database, and so the daemon, for its whole life.
func (db *DB) UUID() string {
	var id string
	db.bolt.View(func(t *bolt.Tx) error {
		id = string(t.Bucket(bucketMeta).Get(keyUUID))
		return nil
	})
	return id
}

// OnChange sets what is told of every committed write from now on, for the
// collector's schedule. It must not block.
func (db *DB) OnChange(fn func(deletion bool)) { db.onChange.Store(&fn) }

// Close waits for writes under way and closes the file. The backends stay open.
func (db *DB) Close() error { return db.bolt.Close() }

func (db *DB) publish(ctx context.Context, topic string, ev any) error {
	if db.back.Events == nil {
		return nil
	}
	return db.back.Events.Publish(ctx, topic, ev)
}
