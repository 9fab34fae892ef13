package builtin

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	port "github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/s3"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
)

// s3Config is where blobs are kept on S3-compatible object storage. The table
// "defaults" chooses it: "io.containerd.content.v1" = "s3".
type s3Config struct {
	// Endpoint is the server's address, such as https://s3.example.com.
	Endpoint string `toml:"endpoint"`
	// Bucket must be there; empty is no such store.
	Bucket string `toml:"bucket"`
	// Prefix begins the names of all objects, such as registry/. One daemon owns it:
	// what that doesn't know is removed there.
	Prefix string `toml:"prefix"`
	// Region is what requests are signed for.
	Region string `toml:"region"`
	// AccessKey signs requests; empty asks the environment (AWS_ACCESS_KEY_ID and
	// AWS_SECRET_ACCESS_KEY), then the machine's role.
	AccessKey string `toml:"access_key"`
	// SecretKeyFile has the key's secret.
	SecretKeyFile string `toml:"secret_key_file"`
	// VirtualHost puts the bucket into the host's name instead of the path.
	VirtualHost bool `toml:"virtual_host"`
	// PartSize is how much is sent at once, in bytes, 5 MiB to 1 GiB. Each upload
	// takes as much of the local disk.
	PartSize int64 `toml:"part_size"`
	// Stall is how long a connection may stand still, such as 30s.
	Stall string `toml:"stall"`
	// Tries is how often something is tried.
	Tries int `toml:"tries"`
}

// store makes the store's config; the secret is read if there is a file.
func (c *s3Config) store() (s3.Config, error) {
	out := s3.Config{Endpoint: c.Endpoint, Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, AccessKey: c.AccessKey,
		VirtualHost: c.VirtualHost, PartSize: c.PartSize, Tries: c.Tries}
	var err error
	if out.Stall, err = time.ParseDuration(c.Stall); err != nil || out.Stall <= 0 {
		return out, fmt.Errorf("stall: %q is no time such as 30s", c.Stall)
	}
	if c.SecretKeyFile != "" {
		secret, err := os.ReadFile(c.SecretKeyFile)
		if err != nil {
			return out, fmt.Errorf("secret_key_file: %w", err)
		}
		out.SecretKey = string(bytes.TrimSpace(secret))
	}
	return out, nil
}

// Validate checks all values.
func (c *s3Config) Validate() error {
	if c.Bucket == "" {
		return nil
	}
	out, err := c.store()
	if err != nil {
		return err
	}
	return out.Validate()
}

func contentS3(r *plugins.Registry) {
	plugins.Provide(r, kinds.Content, "s3", func(s *plugins.Scope) plugins.Build[port.Store] {
		cfg := plugins.Config(s, s3Config{Region: s3.DefaultRegion, PartSize: s3.DefaultPart, Stall: s3.DefaultStall.String(), Tries: s3.DefaultTries})
		root := s.Root()
		if cfg.Bucket == "" {
			s.Off("bucket is not set")
		}
		s.Export("root", root)
		return func(context.Context) (port.Store, error) {
			how, err := cfg.store()
			if err != nil {
				return nil, err
			}
			return s3.Open(root, how)
		}
	})
}
