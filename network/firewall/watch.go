package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// pause is the least time between two reconciliations: a tool that flushes in a loop
// costs no more than twenty a second.
const pause = 50 * time.Millisecond

// Watch sets everything again whenever somebody else changes our tables, or has done so
// before, until the context ends. report, which may be nil, hears of each time that something had to
// be set again, and of what went wrong.
func (f *Firewall) Watch(ctx context.Context, report func(error)) error {
	var config netlink.Config
	if f.config.Namespace != nil {
		config.NetNS = f.config.Namespace.FD()
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &config)
	if err != nil {
		return fmt.Errorf("nftables: watch: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		conn.Close()
		return fmt.Errorf("nftables: watch: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // what was changed before is not told of
	go func() {
		defer stop()
		defer close(changed)
		f.listen(conn, changed)
	}()
	f.mend(ctx, changed, report)
	for range changed { // until the listener is gone
	}
	return ctx.Err()
}

func (f *Firewall) mend(ctx context.Context, changed <-chan struct{}, report func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-changed:
			if !ok {
				return
			}
		}
		if again, err := f.Reconcile(ctx); (again || err != nil) && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listen tells of transactions of others that touched our tables. Notices of a
// transaction's parts come before the one of its end, which names the thread.
func (f *Firewall) listen(conn *netlink.Conn, changed chan<- struct{}) {
	touched := false
	for {
		notices, err := conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			touched = true // notices were lost: look
		} else if err != nil {
			return
		}
		foreign := err != nil
		for _, n := range notices {
			if n.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
				foreign = foreign || touched && !own(n.Data)
				touched = touched && err != nil
				continue
			}
			touched = touched || f.ours(n.Data)
		}
		if !foreign {
			continue
		}
		touched = false
		select {
		case changed <- struct{}{}:
		default: // a look is due already
		}
	}
}

// ours tells whether a notice is about our tables. The table's name is the first
// attribute of whatever is in one.
func (f *Firewall) ours(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	attributes, err := netlink.UnmarshalAttributes(data[4:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Type == unix.NFTA_TABLE_NAME {
			return unix.ByteSliceToString(a.Data) == f.config.Table
		}
	}
	return false
}

// generationPID is NFTA_GEN_PROC_PID.
const generationPID = 2

// own tells whether the thread that ended a transaction is one of this process. In
// another PID namespace it never is, and we look once too often.
func own(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	attributes, err := netlink.UnmarshalAttributes(data[4:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Type == generationPID && len(a.Data) == 4 {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", binary.BigEndian.Uint32(a.Data)))
			return err == nil
		}
	}
	return false
}
