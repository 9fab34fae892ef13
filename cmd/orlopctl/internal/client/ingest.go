package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/containerd/containerd/api/services/content/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ingestChunk is the size of messages when content is written.
const ingestChunk = 1 << 20

// rootLabel makes the collector keep what has it.
const rootLabel = "containerd.io/gc.root"

// Ingest stores what r yields, to stay until it is removed, and returns its digest; that it is stored already
// is no error. Total is the size if it is known, expected the digest.
func (c *Client) Ingest(ctx context.Context, ref string, r io.Reader, total int64, expected string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := content.NewContentClient(c.conn).Write(ctx)
	if err != nil {
		return "", err
	}
	offset, sum := int64(0), sha256.New()
	buf := make([]byte, ingestChunk)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			m := &content.WriteContentRequest{Action: content.WriteAction_WRITE, Ref: ref, Total: total, Offset: offset, Data: buf[:n]}
			if _, err := roundTrip(w, m); err != nil {
				return "", err
			}
			offset += int64(n)
			sum.Write(buf[:n])
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	answer, err := roundTrip(w, &content.WriteContentRequest{
		Action: content.WriteAction_COMMIT, Ref: ref, Total: offset, Offset: offset, Expected: expected,
		Labels: map[string]string{rootLabel: time.Now().UTC().Format(time.RFC3339)},
	})
	own := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if status.Code(err) == codes.AlreadyExists && (expected == "" || expected == own) {
		return own, nil
	}
	return answer.GetDigest(), err
}

// roundTrip sends one message and waits for its answer.
func roundTrip(w content.Content_WriteClient, m *content.WriteContentRequest) (*content.WriteContentResponse, error) {
	if err := w.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return w.Recv() // tells why a send failed, too
}
