package inflate

import (
	"encoding/binary"
	"sync"
)

// block reads a block's header.
func (r *Reader) block() error {
	if err := r.want(3); err != nil {
		return err
	}
	r.last = r.take(1) == 1
	switch kind := r.take(2); kind {
	case 0:
		return r.storedHeader()
	case 1:
		r.fixedCodes()
	case 2:
		if err := r.dynamicCodes(); err != nil {
			return err
		}
	default:
		return corrupt("block of type %d", kind)
	}
	r.state = inCodes
	return nil
}

func (r *Reader) storedHeader() error {
	r.align()
	h, err := r.peek(4)
	if err != nil {
		return err
	}
	n, inverse := binary.LittleEndian.Uint16(h), binary.LittleEndian.Uint16(h[2:])
	if n != ^inverse {
		return corrupt("stored block of %d bytes, or %d", n, ^inverse)
	}
	r.pos += 4
	r.rest, r.state = int(n), inStored
	return nil
}

// stored copies of a stored block what is at hand and has room.
func (r *Reader) stored() error {
	if r.rest == 0 {
		r.endBlock()
		return nil
	}
	if r.pos == r.end {
		if err := r.fill(); err != nil {
			return early(err)
		}
	}
	n := copy(r.out[r.w:outSize], r.in[r.pos:min(r.end, r.pos+r.rest)])
	r.w += n
	r.pos += n
	r.rest -= n
	return nil
}

// fixed are the tables of RFC 1951, 3.2.6.
var fixed = sync.OnceValue(func() *tables {
	t := &tables{fixed: true}
	l := t.lengths[:288]
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	build(t.lit[:], litBits, l, litMeaning[:])
	t.pairUp()
	l = t.lengths[:32]
	for i := range l {
		l[i] = 5
	}
	build(t.dist[:], distBits, l, distMeaning[:])
	return t
})

func (r *Reader) fixedCodes() {
	if !r.codes.fixed {
		r.codes = *fixed()
	}
}

// clOrder is the order in which lengths of the code-length code come.
var clOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the codes of a block (RFC 1951, 3.2.7).
func (r *Reader) dynamicCodes() error {
	if err := r.want(14); err != nil {
		return err
	}
	nlit, ndist, ncl := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if nlit > maxLit || ndist > maxDist {
		return corrupt("%d literal and %d distance codes", nlit, ndist)
	}
	t := &r.codes
	t.fixed = false
	var cl [19]uint8
	for _, sym := range clOrder[:ncl] {
		if err := r.want(3); err != nil {
			return err
		}
		cl[sym] = uint8(r.take(3))
	}
	if !build(t.cl[:], clBits, cl[:], clMeaning[:]) {
		return corrupt("code of code lengths")
	}
	lengths := t.lengths[:nlit+ndist]
	if err := r.codeLengths(lengths); err != nil {
		return err
	}
	if !build(t.lit[:], litBits, lengths[:nlit], litMeaning[:]) {
		return corrupt("code of literals")
	}
	if !build(t.dist[:], distBits, lengths[nlit:], distMeaning[:]) {
		return corrupt("code of distances")
	}
	t.pairUp()
	return nil
}

// codeLengths reads lengths, which are run-length coded.
func (r *Reader) codeLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		e, err := r.codeLength()
		if err != nil {
			return err
		}
		sym := uint8(e >> 16)
		if sym < 16 {
			lengths[i] = sym
			i++
			continue
		}
		var value uint8
		extra, times := uint64(2), 3
		switch sym {
		case 16:
			if i == 0 {
				return corrupt("the first code length repeats one before it")
			}
			value = lengths[i-1]
		case 17:
			extra = 3
		case 18:
			extra, times = 7, 11
		}
		if err := r.want(extra); err != nil {
			return err
		}
		times += int(r.take(extra))
		if i+times > len(lengths) {
			return corrupt("more code lengths than codes")
		}
		for range times {
			lengths[i] = value
			i++
		}
	}
	return nil
}

// codeLength decodes one symbol of the code-length code.
func (r *Reader) codeLength() (uint32, error) {
	return r.symbol(r.codes.cl[:], clBits)
}

// symbol decodes one symbol and uses the bits of its code, not the extra ones.
// It asks for no more input than the code has.
func (r *Reader) symbol(table []uint32, root int) (uint32, error) {
	r.nbits &= 63
	for {
		e := table[r.bits&(1<<root-1)]
		used := uint64(0)
		if e&isSpecial != 0 && e>>16 < noCode {
			used = uint64(e & 63)
			e = table[uint64(e>>16)+r.bits>>used&(1<<(e>>8&0xff)-1)]
		}
		own := uint64(e>>8) & 15
		if e&(isLiteral|isSpecial) != 0 {
			own = uint64(e & 63)
		}
		if e>>16 == noCode && e&isSpecial != 0 {
			own = 1
		}
		if used+own <= r.nbits {
			r.take(used + own)
			return e, nil
		}
		if err := r.want(r.nbits + 8); err != nil {
			return 0, err
		}
	}
}
