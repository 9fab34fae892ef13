package docker

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// websocket is a connection whose bytes travel in messages (RFC 6455). Reading gives what
// the client's messages hold, writing makes a binary message.
type websocket struct {
	conn net.Conn
	r    *bufio.Reader
	left uint64 // of the frame that is being read
	mask [4]byte
	at   int // in the mask

	mu sync.Mutex // of writing
}

// Codes of frames.
const (
	wsContinued = 0x0
	wsText      = 0x1
	wsBinary    = 0x2
	wsClose     = 0x8
	wsPing      = 0x9
	wsPong      = 0xa
)

const (
	// wsKey is what the protocol adds to a client's key.
	wsKey = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	// wsControl bounds control frames, in bytes.
	wsControl = 125
)

// websocket takes the connection over.
func (c *call) websocket() (*websocket, error) {
	h := c.r.Header
	key := h.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") || !strings.Contains(strings.ToLower(h.Get("Connection")), "upgrade") || key == "" {
		return nil, badRequest("this is for websockets: the request asks for no upgrade to one")
	}
	if h.Get("Sec-WebSocket-Version") != "13" {
		c.w.Header().Set("Sec-WebSocket-Version", "13")
		return nil, &apiError{"websockets of version 13 are spoken", http.StatusUpgradeRequired}
	}
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	sum := sha1.Sum([]byte(key + wsKey))
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, err
	}
	return &websocket{conn: conn, r: buffered.Reader}, nil
}

// Read reads what data frames hold; the client's close is the end.
func (w *websocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		if err := w.frame(); err != nil {
			return 0, err
		}
	}
	n, err := w.r.Read(p[:min(uint64(len(p)), w.left)])
	for i := range n {
		p[i] ^= w.mask[w.at&3]
		w.at++
	}
	w.left -= uint64(n)
	return n, err
}

// frame reads a frame's header; control frames are answered.
func (w *websocket) frame() error {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return err
	}
	code, size := head[0]&0xf, uint64(head[1]&0x7f)
	if head[0]&0x70 != 0 || head[1]&0x80 == 0 {
		return fmt.Errorf("a frame of a websocket with the header % x", head)
	}
	var long [8]byte
	switch size {
	case 126:
		if _, err := io.ReadFull(w.r, long[:2]); err != nil {
			return err
		}
		size = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		if _, err := io.ReadFull(w.r, long[:]); err != nil {
			return err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	if _, err := io.ReadFull(w.r, w.mask[:]); err != nil {
		return err
	}
	w.at = 0
	switch code {
	case wsContinued, wsText, wsBinary:
		w.left = size
		return nil
	}
	if size > wsControl {
		return fmt.Errorf("a control frame of a websocket has %d bytes", size)
	}
	return w.control(code, int(size))
}

func (w *websocket) control(code byte, size int) error {
	body := make([]byte, size)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return err
	}
	for i := range body {
		body[i] ^= w.mask[i&3]
	}
	switch code {
	case wsPing:
		return w.send(wsPong, body)
	case wsClose:
		w.send(wsClose, body[:min(2, size)])
		return io.EOF
	}
	return nil
}

// send writes one frame.
func (w *websocket) send(code byte, body []byte) error {
	b := []byte{0x80 | code}
	switch n := len(body); {
	case n <= wsControl:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.conn.Write(append(b, body...))
	return err
}

// Write writes a message.
func (w *websocket) Write(p []byte) (int, error) {
	if err := w.send(wsBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye.
func (w *websocket) Close() error {
	w.send(wsClose, binary.BigEndian.AppendUint16(nil, 1000))
	return w.conn.Close()
}
