package logsink

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/json"
	"io"
	"strconv"

	"github.com/orlop/orlop/internal/logfile"
)

// GELF over UDP: a message that is longer than a packet is cut into chunks (Graylog's
// GELF 1.1, "Chunking").
const (
	gelfPacket = 1420 // fits into any path's packets
	gelfHeader = 12
	gelfChunks = 128
)

type gelf struct {
	link
	at    address
	fixed map[string]any
	level int
	pack  func(w io.Writer) (io.WriteCloser, error) // nil: as it is
}

func newGELF(c *Config) (driver, error) {
	g := &gelf{level: gzip.BestSpeed}
	text := c.Options["gelf-address"]
	if text == "" {
		return nil, bad("gelf-address is required")
	}
	var err error
	if g.at, err = parseAddress("gelf-address", text, "12201", "udp", "tcp"); err != nil {
		return nil, err
	}
	for _, key := range []string{"gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"} {
		if text, given := c.Options[key]; given {
			if n, err := strconv.Atoi(text); err != nil || n < 0 || g.at.network != "tcp" {
				return nil, bad("log opt %s: it is a number above 0 that gelf-address=tcp://… can have", key)
			}
		}
	}
	if err := g.packing(c); err != nil {
		return nil, err
	}
	a := c.About
	g.fixed = map[string]any{"version": "1.1", "host": a.Host, "_container_id": a.ID, "_container_name": a.Name, "_image_id": a.ImageID,
		"_image_name": a.Image, "_command": a.Command, "_tag": a.Tag, "_created": a.Created}
	for key, value := range c.Attrs {
		if key != "id" { // the protocol forbids _id
			g.fixed["_"+key] = value
		}
	}
	return g, nil
}

func (g *gelf) packing(c *Config) error {
	kind, text := c.Options["gelf-compression-type"], c.Options["gelf-compression-level"]
	if g.at.network == "tcp" {
		if kind != "" && kind != "none" || text != "" {
			return bad("compression is only supported on UDP")
		}
		return nil
	}
	if text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < gzip.DefaultCompression || n > gzip.BestCompression {
			return bad("log opt gelf-compression-level: %q is no number from -1 to 9", text)
		}
		g.level = n
	}
	switch kind {
	case "", "gzip":
		g.pack = func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, g.level) }
	case "zlib":
		g.pack = func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriterLevel(w, g.level) }
	case "none":
	default:
		return bad("log opt gelf-compression-type: %q is none of gzip, zlib, none", kind)
	}
	return nil
}

func (g *gelf) isDatagram() bool { return g.at.network == "udp" }

func (g *gelf) connect() error { return g.open(g.at.network, g.at.host) }

func (g *gelf) send(e logfile.Entry) error {
	text, _ := plain(e)
	if len(text) == 0 {
		return nil // short_message must not be empty
	}
	g.fixed["short_message"] = string(text)
	g.fixed["timestamp"] = json.Number(strconv.FormatFloat(float64(e.Time.UnixMilli())/1000, 'f', 3, 64))
	g.fixed["level"] = severity(e)
	data, err := json.Marshal(g.fixed)
	if err != nil {
		return err
	}
	if g.at.network == "tcp" {
		return g.write(append(data, 0))
	}
	if g.pack != nil {
		var b bytes.Buffer
		w, err := g.pack(&b)
		if err != nil {
			return err
		}
		w.Write(data)
		w.Close()
		data = b.Bytes()
	}
	return g.packets(data)
}

// packets sends a message in as many packets as it takes.
func (g *gelf) packets(data []byte) error {
	if len(data) <= gelfPacket {
		return g.write(data)
	}
	const room = gelfPacket - gelfHeader
	n := (len(data) + room - 1) / room
	if n > gelfChunks {
		return errTooLarge
	}
	chunk := make([]byte, gelfHeader, gelfPacket)
	chunk[0], chunk[1] = 0x1e, 0x0f
	rand.Read(chunk[2:10])
	chunk[11] = byte(n)
	for i := range n {
		chunk[10] = byte(i)
		part := data[i*room : min((i+1)*room, len(data))]
		if err := g.write(append(chunk[:gelfHeader], part...)); err != nil {
			return err
		}
	}
	return nil
}
