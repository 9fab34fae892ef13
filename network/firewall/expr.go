package firewall

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: 1 is one of 16 bytes, 8 to 23 are of 4 bytes each and overlap it: 8 is
// its beginning. Concatenated keys are laid out from 8 on.

const (
	protoICMP  = unix.IPPROTO_ICMP
	protoICMP6 = unix.IPPROTO_ICMPV6
	// RFC 4861, 4.3 and 4.4.
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	// Bits of a connection (nf_conntrack_common.h): states are shifted by one.
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	statusDNAT       = 1 << 5
)

// field is a part of a packet.
type field struct {
	base        expr.PayloadBase
	offset, len uint32
}

var (
	source4         = field{expr.PayloadBaseNetworkHeader, 12, 4}
	source6         = field{expr.PayloadBaseNetworkHeader, 8, 16}
	destination4    = field{expr.PayloadBaseNetworkHeader, 16, 4}
	destination6    = field{expr.PayloadBaseNetworkHeader, 24, 16}
	sourcePort      = field{expr.PayloadBaseTransportHeader, 0, 2}
	destinationPort = field{expr.PayloadBaseTransportHeader, 2, 2}
	destinationMAC  = field{expr.PayloadBaseLLHeader, 0, 6}
	sourceMAC       = field{expr.PayloadBaseLLHeader, 6, 6}
	// RFC 826, for Ethernet and IPv4.
	arpMAC     = field{expr.PayloadBaseNetworkHeader, 8, 6}
	arpAddress = field{expr.PayloadBaseNetworkHeader, 14, 4}
	// RFC 4861, 4.4.
	icmpType = field{expr.PayloadBaseTransportHeader, 0, 1}
	ndTarget = field{expr.PayloadBaseTransportHeader, 8, 16}
)

const (
	inName  = expr.MetaKeyIIFNAME
	outName = expr.MetaKeyOIFNAME
)

var (
	accept       = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop         = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	masquerade   = []expr.Any{&expr.Masq{}}
	isIPv4       = meta(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4})
	isIPv6       = meta(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6})
	isARP        = meta(expr.MetaKeyPROTOCOL, []byte{0x08, 0x06})
	established  = bits(expr.CtKeySTATE, stateEstablished|stateRelated)
	translated   = bits(expr.CtKeySTATUS, statusDNAT)
	untranslated = noBits(expr.CtKeySTATUS, statusDNAT)
	toLoopback4  = append(load4(field{expr.PayloadBaseNetworkHeader, 16, 1}, 1), equal([]byte{127}))
	toLoopback6  = append(load4(destination6, 1), equal([]byte{15: 1}))
	// fe80::/10 (RFC 4291, 2.5.6)
	toLinkLocal6 = append(load4(field{expr.PayloadBaseNetworkHeader, 24, 2}, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}}, equal([]byte{0xfe, 0x80}))
	multicast = append(load4(field{expr.PayloadBaseLLHeader, 0, 1}, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{1}, Xor: []byte{0}}, equal([]byte{1}))
	arpProbe = append(load4(arpAddress, 1), equal(make([]byte, 4)))
	toHost   = []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		equal(binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)),
	}
	// The loopback's index is 1 in every namespace.
	notLoopbackIn = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, 1)},
	}
)

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func meta(key expr.MetaKey, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, equal(data)}
}

func bits(key expr.CtKey, mask uint32) []expr.Any { return ofBits(key, mask, expr.CmpOpNeq) }

func noBits(key expr.CtKey, mask uint32) []expr.Any { return ofBits(key, mask, expr.CmpOpEq) }

// ofBits compares some bits with none.
func ofBits(key expr.CtKey, mask uint32, op expr.CmpOp) []expr.Any {
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: zero},
		&expr.Cmp{Op: op, Register: 1, Data: zero},
	}
}

func setMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		// (mark & ^m) ^ m sets the bits of m.
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, ^mark), Xor: binary.NativeEndian.AppendUint32(nil, mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func load(key expr.MetaKey, register uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}}
}

// load4 loads a field of a packet into a register and those behind it.
func load4(f field, register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: f.base, Offset: f.offset, Len: f.len}}
}

// zero loads the address that stands for every address.
func zero(register uint32, size int) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: register, Data: make([]byte, size)}}
}

func proto(register uint32) []expr.Any { return load(expr.MetaKeyL4PROTO, register) }

// ipVersion loads the IP version's family.
func ipVersion(register uint32) []expr.Any { return load(expr.MetaKeyNFPROTO, register) }

func isProto(number byte) []expr.Any { return meta(expr.MetaKeyL4PROTO, []byte{number}) }

// isICMP6 matches messages of a type, in the bridge's family.
func isICMP6(kind byte) []expr.Any {
	out := append(meta(expr.MetaKeyPROTOCOL, []byte{0x86, 0xdd}), isProto(protoICMP6)...)
	return append(append(out, load4(icmpType, 1)...), equal([]byte{kind}))
}

func jump(name string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: name}}
}

func (l *layout) lookup(set string, from uint32, invert bool) []expr.Any {
	s := l.sets[set]
	return []expr.Any{&expr.Lookup{SourceRegister: from, SetName: s.Name, SetID: s.ID, Invert: invert}}
}

func (l *layout) in(set string) []expr.Any    { return l.lookup(set, 1, false) }
func (l *layout) notIn(set string) []expr.Any { return l.lookup(set, 1, true) }
func (l *layout) inFrom(set string, register uint32) []expr.Any {
	return l.lookup(set, register, false)
}
func (l *layout) notInFrom(set string, register uint32) []expr.Any {
	return l.lookup(set, register, true)
}

// same matches packets that leave by the bridge they came by.
func (l *layout) same() []expr.Any {
	return append(append(load(inName, 8), load(outName, 12)...), l.inFrom("same", 8)...)
}

// verdict goes where the map says.
func (l *layout) verdict(set string) []expr.Any {
	// The verdict register is 0.
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: l.sets[set].Name, SetID: l.sets[set].ID}}
}

// value loads what the map says into the registers from 8 on.
func (l *layout) value(set string, from uint32) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: from, DestRegister: 8, IsDestRegSet: true, SetName: l.sets[set].Name, SetID: l.sets[set].ID}}
}

// dnat translates to the address and port in the registers from 8 on.
func dnat(v4 bool) []expr.Any {
	n := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegProtoMin: 9}
	if !v4 {
		n.Family, n.RegProtoMin = unix.NFPROTO_IPV6, 12
	}
	return []expr.Any{n}
}

// snat translates the source to the address in the registers from 8 on.
func snat(v4 bool) []expr.Any {
	n := &expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8}
	if !v4 {
		n.Family = unix.NFPROTO_IPV6
	}
	return []expr.Any{n}
}
