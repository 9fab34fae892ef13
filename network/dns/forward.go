package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
)

var buffers = sync.Pool{New: func() any { return new([dns.MaxMsgSize]byte) }}

// forward asks the upstreams in turn; nil if none answers. Every question has a
// socket and an identity of its own, so that a forger has to guess both.
func (r *Resolver) forward(q *dns.Msg, question []byte, stream bool) []byte {
	question = bytes.Clone(question)
	var id [2]byte
	_, _ = rand.Read(id[:])
	copy(question, id[:])
	var refused []byte
	for _, up := range r.config.Upstream() {
		if r.ctx.Err() != nil {
			return nil
		}
		if !r.may(up) || up.Spare && refused != nil {
			continue
		}
		answer, err := r.ask(up, question, stream)
		if err != nil || len(answer) < 12 {
			continue
		}
		binary.BigEndian.PutUint16(answer, q.Id)
		// An upstream that can't is no answer while there are others.
		if code := answer[3] & 0xf; code != dns.RcodeServerFailure && code != dns.RcodeRefused {
			return answer
		}
		refused = answer
	}
	return refused
}

// may tells whether a server is one to ask. In a sandbox the resolver's own address would
// be asking itself, over and over.
func (r *Resolver) may(up Server) bool {
	if up.Host {
		return !r.config.Table.internal(r.config.Sandbox)
	}
	return up.Address.Addr().Unmap() != Address
}

// ask asks one upstream.
func (r *Resolver) ask(up Server, question []byte, stream bool) ([]byte, error) {
	network := "udp"
	if stream {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.config.Timeout)
	defer cancel()
	var c net.Conn
	dial := func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, network, up.Address.String())
		return err
	}
	var err error
	if up.Host {
		err = dial()
	} else {
		err = r.ns.Do(dial)
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(r.ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(r.config.Timeout))
	if stream {
		if err := writeFrame(c, question); err != nil {
			return nil, err
		}
		answer, err := readFrame(c, dns.MaxMsgSize)
		if err == nil && !answers(answer, question) {
			err = fmt.Errorf("%s answers something else", up.Address)
		}
		return answer, err
	}
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	buf := buffers.Get().(*[dns.MaxMsgSize]byte)
	defer buffers.Put(buf)
	for { // until the deadline: forged ones don't end it
		n, err := c.Read(buf[:])
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], question) {
			return bytes.Clone(buf[:n]), nil
		}
	}
}

// answers tells whether a message answers a question: the same identity and the same
// words, to the letter.
func answers(answer, question []byte) bool {
	if len(answer) < 12 || !bytes.Equal(answer[:2], question[:2]) || answer[2]&0x80 == 0 {
		return false
	}
	words := questionOf(question)
	// Servers that refuse may leave the question out.
	return words != nil && bytes.Equal(questionOf(answer), words) || binary.BigEndian.Uint16(answer[4:]) == 0 && answer[3]&0xf != 0
}

// questionOf cuts the first question out of a message.
func questionOf(m []byte) []byte {
	for i := 12; i < len(m); i += 1 + int(m[i]) {
		if m[i] == 0 {
			return m[12:min(i+5, len(m))]
		}
		if m[i] > 63 {
			return nil
		}
	}
	return nil
}

// redirect leads what a sandbox sends to port 53 of the resolver's address to the
// ports that it listens on. It replaces what an earlier resolver has set.
func redirect(ns *namespace.Namespace, udp, tcp uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(ns.FD()), nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("resolver: nftables: %w", err)
	}
	defer c.CloseLasting()
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "orlop-dns"})
	chain := c.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	c.FlushChain(chain)
	for _, x := range []struct {
		protocol byte
		port     uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: Address.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{x.protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, 53)},
			&expr.Immediate{Register: 1, Data: Address.AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, x.port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("resolver: nftables: %w", err)
	}
	return nil
}
