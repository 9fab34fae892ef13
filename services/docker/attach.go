package docker

import (
	"context"
	"time"

	"github.com/orlop/orlop/internal/logfile"
	"github.com/orlop/orlop/services/engine"
)

var attachRoutes = []route{
	{method: "GET", path: "/containers/{id}/attach/ws", handle: attachWebsocket},
	{method: "POST", path: "/exec/{id}/kill", handle: killExec},
}

// replay writes what a container has printed until now.
func (s *Server) replay(ctx context.Context, id string, st engine.Streams) error {
	l, err := s.engine.Logs(id)
	if err != nil {
		return err
	}
	return l.Read(ctx, engine.LogQuery{Tail: -1, Until: time.Now()}, func(e logfile.Entry) error {
		to := st.Out
		if e.Stream == logfile.Stderr {
			to = st.Err
		}
		if to == nil {
			return nil
		}
		_, err := to.Write(e.Line)
		return err
	})
}

// attachWebsocket joins a container with a websocket, which both streams go to as they are.
func attachWebsocket(s *Server, c *call) error {
	a, st, err := s.attachment(c)
	if err != nil {
		return err
	}
	defer a.Close()
	ctx := c.r.Context()
	ws, err := c.websocket()
	if err != nil {
		return err
	}
	defer ws.Close()
	// Clients that name no stream want all.
	all := c.version < websocketStreams || c.query("stdin")+c.query("stdout")+c.query("stderr") == ""
	if all || c.flag("stdin") {
		st.In = ws
	}
	if all || c.flag("stdout") {
		st.Out = ws
	}
	if all || c.flag("stderr") {
		st.Err = ws
	}
	if c.flag("logs") {
		if err := s.replay(ctx, c.vars["id"], st); err != nil {
			return ignore(err)
		}
	}
	if !c.flag("stream") && c.query("stream") != "" {
		return nil
	}
	if st.In == nil { // somebody must answer pings, and see the client go
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() { drainWebsocket(ws); cancel() }()
	}
	return ignore(a.Run(ctx, st))
}

func drainWebsocket(ws *websocket) {
	buf := make([]byte, 1<<10)
	for {
		if _, err := ws.Read(buf); err != nil {
			return
		}
	}
}

// killExec sends a signal to an exec's process. Docker has no such call: an exec whose
// client has gone can't be ended there.
func killExec(s *Server, c *call) error {
	if err := s.engine.KillExec(c.r.Context(), c.vars["id"], c.query("signal")); err != nil {
		return err
	}
	return c.done()
}
