package logfile

import (
	"bytes"
	"io"
	"os"
)

// tailBlock is how much is read at once, backwards.
const tailBlock = 64 << 10

// tail leaves out what lies before the last n lines: it returns the files that hold
// them, each at the place to read from. The others are closed.
func tail(files []*os.File, n int) ([]*os.File, error) {
	for i := len(files) - 1; i >= 0; i-- {
		at, found, err := lastLines(files[i], n)
		if err != nil {
			return files, err
		}
		if _, err := files[i].Seek(at, io.SeekStart); err != nil {
			return files, err
		}
		if n -= found; n > 0 && i > 0 {
			continue
		}
		for _, f := range files[:i] {
			f.Close()
		}
		return files[i:], nil
	}
	return files, nil
}

// lastLines finds where the last n lines of a file begin, and how many there are,
// at most n. A line that has no end yet does not count.
func lastLines(f *os.File, n int) (at int64, found int, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, tailBlock)
	ends := 0 // newlines seen; the first ends the last line
	for end := size; end > 0; {
		start := max(end-tailBlock, 0)
		block := buf[:end-start]
		if _, err := f.ReadAt(block, start); err != nil {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(block, '\n'); i >= 0; i = bytes.LastIndexByte(block[:i], '\n') {
			if ends == n {
				return start + int64(i) + 1, n, nil
			}
			ends++
		}
		end = start
	}
	return 0, ends, nil
}
