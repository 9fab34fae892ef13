package dns

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl is for how long sandboxes may keep an answer, in seconds; the Engine's.
const ttl = 600

// answer answers one message, nil if it deserves none.
func (r *Resolver) answer(question []byte, stream bool) []byte {
	var q dns.Msg
	if err := q.Unpack(question); err != nil {
		if len(question) < 12 || question[2]&0x80 != 0 {
			return nil // too short to answer, or an answer itself: no loops
		}
		var bad dns.Msg
		bad.Id, bad.Response, bad.Rcode = uint16(question[0])<<8|uint16(question[1]), true, dns.RcodeFormatError
		return pack(&bad, 512)
	}
	if q.Response {
		return nil
	}
	room := dns.MaxMsgSize
	if !stream {
		room = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			room = max(room, int(opt.UDPSize()))
		}
	}
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		return pack(refusal(&q, dns.RcodeNotImplemented), room)
	}
	if a := r.local(&q); a != nil {
		return pack(a, room)
	}
	if a := r.forward(&q, question, stream); a != nil {
		return a
	}
	return pack(refusal(&q, dns.RcodeServerFailure), room)
}

func refusal(q *dns.Msg, code int) *dns.Msg {
	var a dns.Msg
	a.SetRcode(q, code)
	a.RecursionAvailable = true
	return &a
}

func pack(a *dns.Msg, room int) []byte {
	a.Truncate(room) // no more than the asker takes; it comes again by TCP
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}

// local answers what the table knows, nil for the rest.
func (r *Resolver) local(q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	if question.Qclass != dns.ClassINET {
		return nil
	}
	if question.Qtype == dns.TypePTR {
		return r.pointer(q)
	}
	addresses, known := r.config.Table.Lookup(r.config.Sandbox, question.Name)
	if !known && r.config.Own != nil {
		addresses, known = r.config.Own(fold(question.Name))
	}
	if !known {
		return nil
	}
	// A name that is known and has no such record has no data; it doesn't not
	// exist, which would end the asker's search.
	a := refusal(q, dns.RcodeSuccess)
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	for _, x := range addresses {
		h := dns.RR_Header{Name: question.Name, Class: dns.ClassINET, Ttl: ttl, Rrtype: question.Qtype}
		switch {
		case question.Qtype == dns.TypeA && x.Is4():
			a.Answer = append(a.Answer, &dns.A{Hdr: h, A: net.IP(x.AsSlice())})
		case question.Qtype == dns.TypeAAAA && x.Is6():
			a.Answer = append(a.Answer, &dns.AAAA{Hdr: h, AAAA: net.IP(x.AsSlice())})
		}
	}
	return a
}

func (r *Resolver) pointer(q *dns.Msg) *dns.Msg {
	name := q.Question[0].Name
	x, ok := addressOf(name)
	if !ok {
		return nil
	}
	host := r.config.Table.reverse(r.config.Sandbox, x)
	if host == "" {
		return nil
	}
	a := refusal(q, dns.RcodeSuccess)
	a.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: ttl, Rrtype: dns.TypePTR}, Ptr: dns.Fqdn(host)}}
	return a
}

// addressOf reads the names of addresses, under in-addr.arpa and ip6.arpa.
func addressOf(name string) (netip.Addr, bool) {
	name = fold(name)
	var b strings.Builder
	if digits, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		parts := strings.Split(digits, ".")
		if len(parts) != 32 {
			return netip.Addr{}, false
		}
		for i := range parts {
			b.WriteString(parts[31-i])
			if i%4 == 3 && i < 31 {
				b.WriteByte(':')
			}
		}
	} else if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(digits, ".")
		for i := range parts {
			b.WriteString(parts[len(parts)-1-i])
			if i < len(parts)-1 {
				b.WriteByte('.')
			}
		}
	}
	x, err := netip.ParseAddr(b.String())
	return x, err == nil && x.Zone() == ""
}
