package client

import (
	"context"
	"errors"
	"io"

	"github.com/containerd/containerd/api/services/streaming/v1"
	"github.com/containerd/containerd/api/types/transfer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// chunk is the size of data messages on a binary stream.
	chunk = 32 << 10
	// window is how many bytes a receiver lets the sender be ahead.
	window = 2 * chunk
)

// stream is a named stream of messages beside a call; one call names it, the
// daemon and the client talk over it.
type stream struct {
	id  string
	grp streaming.Streaming_StreamClient
	end context.CancelFunc
}

// open makes a stream and waits until the daemon knows its name.
func (c *Client) open(ctx context.Context, id string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	grp, err := streaming.NewStreamingClient(c.conn).Stream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{id: id, grp: grp, end: cancel}
	if err := s.send(&streaming.StreamInit{ID: id}); err != nil {
		cancel()
		return nil, s.reason(err)
	}
	if _, err := grp.Recv(); err != nil {
		cancel()
		return nil, err
	}
	return s, nil
}

// reason replaces the bare EOF of a failed send by what the daemon said.
func (s *stream) reason(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, said := s.grp.Recv(); said != nil {
		return said
	}
	return err
}

func (s *stream) send(m proto.Message) error {
	a, err := pack(m)
	if err != nil {
		return err
	}
	return s.grp.Send(a)
}

// recv returns the next message; io.EOF means the daemon has closed the stream.
func (s *stream) recv() (*anypb.Any, error) {
	a, err := s.grp.Recv()
	if status.Code(err) == codes.Canceled {
		err = io.EOF
	}
	return a, err
}

// close says that no more messages follow from here.
func (s *stream) close() { s.grp.CloseSend() }

// sendAll sends r as data messages, as far as the receiver's window lets it.
func (s *stream) sendAll(ctx context.Context, r io.Reader) error {
	updates := make(chan int32)
	var ended error // why no more updates come; for when updates is closed
	go func() {
		defer close(updates)
		for {
			var u transfer.WindowUpdate
			a, err := s.recv()
			if err == nil {
				_, err = Unpack(a, &u)
			}
			if err != nil {
				ended = err
				return
			}
			select {
			case updates <- u.Update:
			case <-ctx.Done():
				return
			}
		}
	}()
	// gone waits for the daemon's word on why it takes no more. Only the goroutine
	// above receives: a second receiver would wait for ever.
	gone := func() error {
		for range updates {
		}
		if errors.Is(ended, io.EOF) {
			return nil // it has read all it wants, or the call itself says more
		}
		return ended
	}
	defer s.close()
	buf := make([]byte, chunk)
	left := int32(0)
	for {
		for left <= 0 {
			select {
			case n, ok := <-updates:
				if !ok {
					return gone()
				}
				left += n
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		n, err := r.Read(buf[:min(int(left), len(buf))])
		if n > 0 {
			if err := s.send(&transfer.Data{Data: buf[:n]}); errors.Is(err, io.EOF) {
				return gone()
			} else if err != nil {
				return err
			}
			left -= int32(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receiveAll writes the data messages of the stream to w until the daemon
// closes it, or ended says that no more are to come.
func (s *stream) receiveAll(w io.Writer, ended func() bool) error {
	defer s.close()
	left := 0
	for !ended() {
		if left < window {
			if err := s.send(&transfer.WindowUpdate{Update: window}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			left += window
		}
		a, err := s.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var d transfer.Data
		if ok, err := Unpack(a, &d); err != nil || !ok {
			if err == nil {
				err = errors.New("the daemon sent a message of unknown type " + a.GetTypeUrl())
			}
			return err
		}
		n, err := w.Write(d.Data)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}
