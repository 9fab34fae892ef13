package inflate

import "math/bits"

// A table entry is 32 bits:
//
//	0–5    bits to use: those of the code and of its extra bits
//	6      literal
//	7      special: a second table, the end of the block, or no code at all
//	8–11   of lengths and distances: bits of the code alone
//	8–9    of literals: how many there are, 1 or 2
//	8–15   of a second table: bits of its index
//	16–31  two literals, a base, or where the second table begins
const (
	isLiteral = 1 << 6
	isSpecial = 1 << 7
	// A special entry that is no second table has one of these bases.
	endOfBlock = 0xffff
	noCode     = 0xfffe

	litBits  = 11
	distBits = 8
	clBits   = 7
	maxCode  = 15 // bits

	maxLit  = 286
	maxDist = 30
	// The most entries that codes of 15 bits need over first tables of 11 and 8
	// bits are 2342 and 402; these are the next powers of two, for masks.
	litTable  = 4096
	distTable = 512
)

const badEntry = isSpecial | noCode<<16

// tables are the codes of one block.
type tables struct {
	lit     [litTable]uint32
	dist    [distTable]uint32
	cl      [1 << clBits]uint32
	lengths [maxLit + maxDist + 2]uint8
	fixed   bool // lit and dist are the fixed ones
}

// The symbols' meanings (RFC 1951, 3.2.5), as entries without code lengths.
var litMeaning, distMeaning, clMeaning = meanings()

func meanings() (lit [288]uint32, dist [32]uint32, cl [19]uint32) {
	for i := range 256 {
		lit[i] = isLiteral | 1<<8 | uint32(i)<<16
	}
	lit[256] = isSpecial | endOfBlock<<16
	base := uint32(3)
	for i := range 28 {
		extra := uint32(0)
		if i >= 8 {
			extra = uint32(i-4) / 4
		}
		lit[257+i] = base<<16 | extra
		base += 1 << extra
	}
	lit[285] = maxMatch << 16
	lit[286], lit[287] = badEntry, badEntry
	base = 1
	for i := range maxDist {
		extra := uint32(0)
		if i >= 4 {
			extra = uint32(i-2) / 2
		}
		dist[i] = base<<16 | extra
		base += 1 << extra
	}
	dist[30], dist[31] = badEntry, badEntry
	for i := range cl {
		cl[i] = uint32(i) << 16
	}
	return lit, dist, cl
}

// withCode gives a meaning its code of n bits.
func withCode(meaning uint32, n int) uint32 {
	switch {
	case meaning&isSpecial != 0:
		return meaning | uint32(n)
	case meaning&isLiteral != 0:
		return meaning + uint32(n)
	}
	return meaning + uint32(n) | uint32(n)<<8
}

// build fills a table whose first part is indexed by root bits. It reports
// whether the lengths make a complete code. An empty code, and a single code of
// one bit, are taken too, as others do; what they lack is no code.
func build(table []uint32, root int, lengths []uint8, meaning []uint32) bool {
	var count, offset [maxCode + 2]int
	for _, n := range lengths {
		count[n]++
	}
	used := len(lengths) - count[0]
	count[0] = 0
	left := 1 // codes of length n that are not given
	for n := 1; n <= maxCode; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return false
		}
		offset[n+1] = offset[n] + count[n]
	}
	if left > 0 && used != count[1] {
		return false
	}
	var order [maxLit + 2]uint16 // symbols by the length of their code
	for sym, n := range lengths {
		if n > 0 {
			order[offset[n]] = uint16(sym)
			offset[n]++
		}
	}
	if left > 0 {
		for i := range table[:1<<root] {
			table[i] = badEntry
		}
		if used == 1 {
			for i := 0; i < 1<<root; i += 2 {
				table[i] = withCode(meaning[order[0]], 1)
			}
		}
		return true
	}
	fillTable(table, root, order[:used], &count, meaning)
	return true
}

// fillTable enters the symbols of a complete code. Codes go up in bit-reversed
// order; the first table grows by doubling as they get longer. Codes longer than
// root share second tables, each made when its first, shortest, code appears.
func fillTable(table []uint32, root int, order []uint16, count *[maxCode + 2]int, meaning []uint32) {
	code, n, end, prefix, start := 0, 1, 2, -1, 0
	for _, sym := range order {
		for ; count[n] == 0; n++ {
			if n < root {
				copy(table[end:2*end], table[:end])
				end *= 2
			}
		}
		if n <= root {
			table[code] = withCode(meaning[sym], n)
		} else {
			if code&(1<<root-1) != prefix {
				prefix, start = code&(1<<root-1), end
				size := secondBits(count, n, root)
				end += 1 << size
				table[prefix] = isSpecial | uint32(root) | uint32(size)<<8 | uint32(start)<<16
			}
			e := withCode(meaning[sym], n-root)
			for i := start + code>>root; i < end; i += 1 << (n - root) {
				table[i] = e
			}
		}
		count[n]--
		code = following(code, n)
	}
	for ; n < root; n++ {
		copy(table[end:2*end], table[:end])
		end *= 2
	}
}

// following is the next code of n bits in bit-reversed order.
func following(code, n int) int {
	bit := 1 << bits.Len(uint(code^(1<<n-1))) >> 1
	return code&(bit-1) | bit
}

// secondBits is how many bits index the second table whose shortest code has n.
func secondBits(count *[maxCode + 2]int, n, root int) int {
	size := n - root
	for used := count[n]; used < 1<<size; used = used<<1 + count[root+size] {
		size++
	}
	return size
}

// pairUp makes entries of two literals where both codes fit into the first table.
func (t *tables) pairUp() {
	for i := 1<<litBits - 1; i >= 0; i-- {
		e := t.lit[i]
		if e&isLiteral == 0 {
			continue
		}
		n := e & 63
		next := t.lit[uint32(i)>>n] // at or below i: not paired yet
		if next&isLiteral != 0 && n+next&63 <= litBits {
			t.lit[i] = e + next&63 + 1<<8 | next>>16<<24
		}
	}
}
