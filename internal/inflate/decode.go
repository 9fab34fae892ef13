package inflate

import "encoding/binary"

var le = binary.LittleEndian

// round is how much input one round of the fast loop may look at: seven bytes are
// used by its first refill, eight are loaded by the second.
const round = 16

// compressed decodes symbols until the block or the input at hand ends or the
// output is full.
func (r *Reader) compressed() error {
	if r.end-r.pos >= round {
		return r.fast()
	}
	if !r.eof {
		if err := r.fillMore(); err != nil {
			return err
		}
		return nil
	}
	return r.slow()
}

// fillMore reads more; that the source has ended is seen by r.eof.
func (r *Reader) fillMore() error {
	if err := r.fill(); err != nil && !r.eof {
		return err
	}
	return nil
}

// Masks that keep indexes inside of the arrays, with room behind. They change
// nothing: the loop's conditions hold the indexes below.
const (
	inMask  = inSize - 1
	outMask = outSize - 1
)

// fast decodes as long as a round's input is at hand and a match has room.
func (r *Reader) fast() error {
	in, out := &r.in, &r.out
	lit, dist := &r.codes.lit, &r.codes.dist
	bits, nbits, pos, w := r.bits, r.nbits, r.pos, r.w
	inEnd := r.end - round
	var err error
	for pos <= inEnd && w < outLimit {
		// Only the low 6 bits of nbits are the number, the rest is anything.
		bits |= le.Uint64(in[pos&inMask:]) << (nbits & 63)
		pos += int(^nbits & 63 >> 3)
		nbits |= 56
		e := lit[bits&(1<<litBits-1)]
		if e&isLiteral != 0 {
			bits >>= e & 63
			nbits -= uint64(e)
			le.PutUint16(out[w&outMask:], uint16(e>>16))
			w += int(e >> 8 & 3)
			e = lit[bits&(1<<litBits-1)]
		}
		if e&isLiteral != 0 {
			bits >>= e & 63
			nbits -= uint64(e)
			le.PutUint16(out[w&outMask:], uint16(e>>16))
			w += int(e >> 8 & 3)
			e = lit[bits&(1<<litBits-1)]
		}
		if e&isLiteral != 0 {
			bits >>= e & 63
			nbits -= uint64(e)
			le.PutUint16(out[w&outMask:], uint16(e>>16))
			w += int(e >> 8 & 3)
			continue
		}
		if e&isSpecial != 0 && e>>16 < noCode {
			bits >>= e & 63
			nbits -= uint64(e)
			e = lit[(uint64(e>>16)+bits&(1<<(e>>8&15)-1))&(litTable-1)]
		}
		length := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		nbits -= uint64(e)
		if e&isLiteral != 0 {
			le.PutUint16(out[w&outMask:], uint16(e>>16))
			w += int(e >> 8 & 3)
			continue
		}
		if e&isSpecial != 0 {
			err = r.special(e)
			break
		}
		bits |= le.Uint64(in[pos&inMask:]) << (nbits & 63)
		pos += int(^nbits & 63 >> 3)
		nbits |= 56
		d := dist[bits&(1<<distBits-1)]
		if d&isSpecial != 0 && d>>16 < noCode {
			bits >>= d & 63
			nbits -= uint64(d)
			d = dist[(uint64(d>>16)+bits&(1<<(d>>8&15)-1))&(distTable-1)]
		}
		distance := int(d>>16) + int(bits&(1<<(d&63)-1)>>(d>>8&15))
		bits >>= d & 63
		nbits -= uint64(d)
		if distance > w-r.base || d&isSpecial != 0 {
			err = tooFar(d, distance, w-r.base)
			break
		}
		if distance >= 8 {
			copyWords(out, w, w-distance, length)
		} else {
			copyNear(out, w, distance, length)
		}
		w += length
	}
	r.bits, r.nbits, r.pos, r.w = bits, nbits&63, pos, w
	return err
}

// special ends a block, or tells what is wrong with a symbol.
func (r *Reader) special(e uint32) error {
	if e>>16 != endOfBlock {
		return corrupt("no such literal")
	}
	r.endBlock()
	return nil
}

func tooFar(d uint32, distance, have int) error {
	if d&isSpecial != 0 {
		return corrupt("no such distance")
	}
	return corrupt("distance %d, only %d bytes before", distance, have)
}

// copyWords copies a match that doesn't overlap itself within a word.
func copyWords(out *[outSize + slack]byte, w, from, length int) {
	for end := w + length; ; w, from = w+16, from+16 {
		le.PutUint64(out[w&outMask:], le.Uint64(out[from&outMask:]))
		le.PutUint64(out[w&outMask+8:], le.Uint64(out[from&outMask+8:]))
		if w+16 >= end {
			return
		}
	}
}

// copyNear copies a match that overlaps itself within a word.
func copyNear(out *[outSize + slack]byte, w, distance, length int) {
	end := w + length
	if distance == 1 {
		word := uint64(out[(w-1)&outMask]) * 0x0101010101010101
		for ; w < end; w += 8 {
			le.PutUint64(out[w&outMask:], word)
		}
		return
	}
	for ; w < end; w++ {
		out[w&outMask] = out[(w-distance)&outMask]
	}
}

// slow decodes one symbol, or one match, near the end of the input.
func (r *Reader) slow() error {
	e, err := r.symbol(r.codes.lit[:], litBits)
	if err != nil {
		return err
	}
	if e&isLiteral != 0 {
		le.PutUint16(r.out[r.w:], uint16(e>>16))
		r.w += int(e >> 8 & 3)
		return nil
	}
	if e&isSpecial != 0 {
		return r.special(e)
	}
	length, err := r.extra(e)
	if err != nil {
		return err
	}
	e, err = r.symbol(r.codes.dist[:], distBits)
	if err != nil {
		return err
	}
	if e&isSpecial != 0 {
		return tooFar(e, 0, 0)
	}
	distance, err := r.extra(e)
	if err != nil {
		return err
	}
	if distance > r.w-r.base {
		return tooFar(e, distance, r.w-r.base)
	}
	for range length {
		r.out[r.w] = r.out[r.w-distance]
		r.w++
	}
	return nil
}

// extra reads the extra bits of a length or a distance whose code is used.
func (r *Reader) extra(e uint32) (int, error) {
	n := uint64(e&63) - uint64(e>>8&15)
	if err := r.want(n); err != nil {
		return 0, err
	}
	return int(e>>16) + int(r.take(n)), nil
}
