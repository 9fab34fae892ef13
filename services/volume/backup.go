package volume

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/services/archive/packed"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Backup writes a volume's files as a tar archive. Containers that use it go on; who
// wants files that fit together stops or pauses them.
func (s *Service) Backup(ctx context.Context, name string, w io.Writer) error {
	who := "backup " + newName()
	path, err := s.Use(ctx, name, who)
	if err != nil {
		return err
	}
	defer s.endUse(ctx, name, who)
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = layer.Diff(ctx, "", fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), w, layer.DiffOptions{Root: "."})
	if err != nil {
		return fmt.Errorf("backup of volume %s: %w", name, err)
	}
	return nil
}

func (s *Service) endUse(ctx context.Context, name, who string) {
	if err := s.Done(ctx, name, who); err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Warnf("volume %s", name)
	}
}

// Restore puts the files of a tar archive, which may be compressed, into an empty
// volume: all of them, or none. A volume with files is a conflict.
func (s *Service) Restore(ctx context.Context, name string, r io.Reader) error {
	tar, err := packed.Open(r)
	if err != nil {
		return fmt.Errorf("archive for volume %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	defer tar.Close()
	empty := false
	err = s.Fill(ctx, name, "restore "+newName(), func(dir string) error {
		empty = true
		_, err := layer.Apply(ctx, dir, tar, layer.Options{Whiteouts: layer.Plain})
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("restore of volume %s: %w", name, err)
	case !empty:
		return &opError{"restore " + name, conflict("volume is not empty")}
	}
	return nil
}
