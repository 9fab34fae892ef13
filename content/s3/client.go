package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
)

// Bounds of connections.
const (
	dialWait = 10 * time.Second
	maxIdle  = 32
	idleWait = time.Minute
)

// transport gives up a connection on which nothing moves for a while.
func transport(stall time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: min(dialWait, stall)}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &moving{c, stall}, nil
		},
		MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleWait,
		TLSHandshakeTimeout: dialWait, ResponseHeaderTimeout: stall, ExpectContinueTimeout: time.Second,
		DisableCompression: true, // blobs are what they are
	}
}

// moving is a connection whose reads and writes each have a time limit.
type moving struct {
	net.Conn
	stall time.Duration
}

// Read waits for bytes no longer than the limit.
func (m *moving) Read(p []byte) (int, error) {
	if err := m.SetReadDeadline(time.Now().Add(m.stall)); err != nil {
		return 0, err
	}
	return m.Conn.Read(p)
}

// Write waits for room no longer than the limit.
func (m *moving) Write(p []byte) (int, error) {
	if err := m.SetWriteDeadline(time.Now().Add(m.stall)); err != nil {
		return 0, err
	}
	return m.Conn.Write(p)
}

// classify gives the server's answers the class that clients see.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	r := minio.ToErrorResponse(err)
	var class error = errdefs.ErrUnavailable
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case r.Code == minio.NoSuchBucket:
		class = errdefs.ErrInternal
	case r.Code == minio.NoSuchKey || r.Code == minio.NoSuchUpload || r.StatusCode == http.StatusNotFound:
		class = errdefs.ErrNotFound
	case r.Code == minio.AccessDenied || r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized:
		class = errdefs.ErrInternal // it is the operator's, not the client's
	case r.StatusCode == http.StatusInsufficientStorage || r.Code == "QuotaExceeded":
		class = errdefs.ErrResourceExhausted
	case r.StatusCode >= 400 && r.StatusCode < 500 && r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusRequestTimeout:
		class = errdefs.ErrUnknown
	}
	return fmt.Errorf("%s: object storage: %w: %w", what, err, class)
}

// describe names a blob in errors.
func describe(dgst digest.Digest) string { return "blob " + dgst.String() }

func check(dgst digest.Digest) error {
	if err := dgst.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
	}
	return nil
}
