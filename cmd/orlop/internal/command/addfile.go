package command

import (
	"archive/tar"
	"errors"
	"io"
)

// withFile puts a file into a tar stream, before the rest, in place of any of its name.
func withFile(in io.ReadCloser, name string, data []byte) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		defer in.Close()
		w.CloseWithError(addFile(w, in, name, data))
	}()
	return r
}

func addFile(w io.Writer, in io.Reader, name string, data []byte) error {
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := out.Write(data); err != nil {
		return err
	}
	for from := tar.NewReader(in); ; {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if h.Name == name {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, from); err != nil {
			return err
		}
	}
}
