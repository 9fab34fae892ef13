// Package s3 is the content store on S3-compatible object storage:
//
//	<prefix>blobs/<algorithm>/<hex>   the blobs
//	<prefix>ingest/<id>               a large ingest between its last part and its blob
//	<prefix>owner                     whose these objects are
//
// and, on this machine, for each ingest:
//
//	ingest/<sha256 of ref>/ref.json   its ref, the parts that were sent, the hash so far
//	ingest/<sha256 of ref>/part-<n>   the bytes of the part that isn't sent yet
//
// An ingest fills a file of one part; a full one is sent and then noted. So memory is
// bounded by buffers, the disk by one part an ingest, and what a killed process leaves
// goes on at the byte that it had reached. What fits into one part is put under its
// digest at once; what is larger is copied there by the server, after its digest was
// checked. Either way an object appears under blobs when it is whole.
//
// One store owns a prefix: what its database doesn't name is removed at its start. The
// owner's mark keeps another from that.
//
// Waiting is bounded by progress, not by time: a connection on which nothing moves for
// [Config].Stall is given up, and what failed for a reason that may pass is tried
// [Config].Tries times. Then it is Unavailable, and ingests stay for their writers.
//
// All methods are safe for concurrent use, a Writer's are for one goroutine.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
)

// Bounds, from the S3 API's section "Amazon S3 multipart upload limits".
const (
	minPart  = 5 << 20 // bytes, of all parts but the last
	maxPart  = 1 << 30 // bytes; the API takes 5 GiB, but a part is also a file here
	maxParts = 10_000
)

// Defaults.
const (
	DefaultPart   = 16 << 20
	DefaultStall  = 30 * time.Second
	DefaultTries  = 4
	DefaultRegion = "us-east-1"
)

// Config is where the objects are.
type Config struct {
	// Endpoint is the server's address, such as https://s3.example.com.
	Endpoint string
	// Bucket must be there.
	Bucket string
	// Prefix begins all names; with a slash at its end it is a folder.
	Prefix string
	// Region is [DefaultRegion] if it is empty.
	Region string
	// AccessKey and SecretKey sign requests. Without them the environment is asked
	// (AWS_ACCESS_KEY_ID, …), then the machine's role.
	AccessKey, SecretKey string
	// VirtualHost puts the bucket into the host's name instead of the path.
	VirtualHost bool
	// PartSize is how much is sent at once, in bytes; 0 is [DefaultPart].
	PartSize int64
	// Stall is how long nothing may move; 0 is [DefaultStall].
	Stall time.Duration
	// Tries is how often something is tried; 0 is [DefaultTries].
	Tries int
}

// Validate checks all values.
func (c Config) Validate() error {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("endpoint: %q is no address such as https://s3.example.com", c.Endpoint)
	}
	switch {
	case c.Bucket == "":
		return errors.New("bucket: none is named")
	case strings.HasPrefix(c.Prefix, "/"):
		return fmt.Errorf("prefix: %q begins with a slash", c.Prefix)
	case c.PartSize != 0 && (c.PartSize < minPart || c.PartSize > maxPart):
		return fmt.Errorf("part_size: %d is not between %d and %d", c.PartSize, minPart, maxPart)
	case c.Stall < 0 || c.Tries < 0:
		return errors.New("stall and tries can't be negative")
	case (c.AccessKey == "") != (c.SecretKey == ""):
		return errors.New("access_key: it needs its secret, and the secret its key")
	}
	return nil
}

// Store is a content.Store without labels. Only one process may use a root.
type Store struct {
	*ingest.Folders // its ingests: Writer, Status, ListStatuses, Abort, TornIngests, DropTorn

	cfg  Config
	id   string // of the owner's mark
	core *minio.Core

	claimMu sync.Mutex
	claimed bool
}

var (
	_ content.Store   = (*Store)(nil)
	_ content.Mender  = (*Store)(nil)
	_ content.Locator = (*Store)(nil)
)

// Open prepares root, the folder on this machine, and returns the store. Ingests that a
// crash left torn are gone there. The server is not asked, as it may come up later; what it
// has of them goes before its blobs are first listed, removed or added to.
func Open(root string, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.filled()
	s := &Store{cfg: cfg}
	var err error
	s.Folders, err = ingest.Open(root, ingest.Backend{Has: s.has, Stat: stat, Open: s.writer, Forget: s.abort})
	if err == nil {
		s.id, err = identity(filepath.Join(root, "id"))
	}
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	if cfg.VirtualHost {
		lookup = minio.BucketLookupDNS
	}
	s.core, err = minio.NewCore(u.Host, &minio.Options{Creds: cfg.credentials(), Secure: u.Scheme == "https", Transport: transport(cfg.Stall),
		Region: cfg.Region, BucketLookup: lookup, MaxRetries: cfg.Tries})
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	return s, nil
}

func (c Config) filled() Config {
	if c.Region == "" {
		c.Region = DefaultRegion
	}
	if c.PartSize == 0 {
		c.PartSize = DefaultPart
	}
	if c.Stall == 0 {
		c.Stall = DefaultStall
	}
	if c.Tries == 0 {
		c.Tries = DefaultTries
	}
	return c
}

func (c Config) credentials() *credentials.Credentials {
	if c.AccessKey != "" {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.IAM{}})
}

// Close ends idle connections.
func (s *Store) Close() error {
	s.core.CredContext().Client.CloseIdleConnections()
	return nil
}

func (s *Store) blobKey(dgst digest.Digest) string {
	return s.cfg.Prefix + "blobs/" + dgst.Algorithm().String() + "/" + dgst.Encoded()
}

func (s *Store) ingests() string { return s.cfg.Prefix + "ingest/" }

// small bounds one question whose answer is short.
func (s *Store) small(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(s.cfg.Tries)*(s.cfg.Stall+minio.DefaultRetryCap))
}
