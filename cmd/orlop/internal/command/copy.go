package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/go-archive"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

// copying is one cp.
type copying struct {
	follow, archive, quiet bool
}

func copyCommand(s *session.Session) *cobra.Command {
	var k copying
	c := &cobra.Command{Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\torlop cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files between a container and the host", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			from, source := splitPath(args[0])
			to, target := splitPath(args[1])
			switch {
			case from != "" && to != "":
				return errors.New("copying between containers is not supported")
			case from != "":
				return k.out(c.Context(), s, from, source, target)
			case to != "":
				return k.in(c.Context(), s, to, source, target)
			}
			return errors.New("must specify at least one container source")
		}}
	f := c.Flags()
	f.BoolVarP(&k.follow, "follow-link", "L", false, "Follow symbolic links of the source")
	f.BoolVarP(&k.archive, "archive", "a", false, "Keep owners")
	f.BoolVarP(&k.quiet, "quiet", "q", false, "Show no result")
	return c
}

// splitPath splits CONTAINER:PATH. A path that is absolute or begins with a dot is
// the host's, whatever colons it has.
func splitPath(text string) (name, path string) {
	if filepath.IsAbs(text) || strings.HasPrefix(text, ".") {
		return "", text
	}
	name, path, found := strings.Cut(text, ":")
	if !found {
		return "", text
	}
	return name, path
}

// out copies from a container.
func (k *copying) out(ctx context.Context, s *session.Session, id, source, target string) error {
	e, err := s.Engine()
	if err != nil {
		return err
	}
	rebase := ""
	if k.follow {
		if st, err := e.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: source}); err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
			link := st.Stat.LinkTarget
			if !filepath.IsAbs(link) {
				link = filepath.Join(filepath.Dir(source), link)
			}
			source, rebase = archive.GetRebaseName(source, link)
		}
	}
	got, err := e.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: source})
	if err != nil {
		return err
	}
	defer got.Content.Close()
	if target == "-" {
		if _, tty := session.Terminal(s.Out); tty {
			return errors.New("cowardly refusing to write an archive to a terminal")
		}
		_, err := io.Copy(s.Out, got.Content)
		return err
	}
	info := archive.CopyInfo{Path: source, Exists: true, IsDir: got.Stat.Mode.IsDir(), RebaseName: rebase}
	count := &counter{r: got.Content}
	var in io.Reader = count
	if rebase != "" {
		_, last := archive.SplitPathDirEntry(info.Path)
		in = archive.RebaseArchiveEntries(count, last, rebase)
	}
	if err := archive.CopyTo(in, info, target); err != nil {
		return err
	}
	k.tell(s, count.n, id+":"+source, target)
	return nil
}

// in copies into a container.
func (k *copying) in(ctx context.Context, s *session.Session, id, source, target string) error {
	e, err := s.Engine()
	if err != nil {
		return err
	}
	target = archive.PreserveTrailingDotOrSeparator(filepath.Join("/", target), target)
	info, err := k.target(ctx, e, id, target)
	if err != nil {
		return err
	}
	dir := info.Path
	var content io.ReadCloser
	if source == "-" {
		if !info.IsDir {
			return fmt.Errorf("destination %q must be a directory", id+":"+target)
		}
		content = io.NopCloser(s.In)
	} else if dir, content, err = k.pack(source, info); err != nil {
		return err
	}
	defer content.Close()
	count := &counter{r: content}
	_, err = e.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: dir, Content: count, CopyUIDGID: k.archive})
	if err == nil {
		k.tell(s, count.n, source, id+":"+target)
	}
	return err
}

// target finds out what is at the destination, behind a symbolic link if it is one.
func (k *copying) target(ctx context.Context, e *client.Client, id, path string) (archive.CopyInfo, error) {
	info := archive.CopyInfo{Path: path}
	st, err := e.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: path})
	if err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
		link := st.Stat.LinkTarget
		if !filepath.IsAbs(link) {
			dir, _ := archive.SplitPathDirEntry(path)
			link = filepath.Join(dir, link)
		}
		info.Path = link
		st, err = e.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: link})
	}
	if err == nil {
		info.Exists, info.IsDir = true, st.Stat.Mode.IsDir()
	}
	return info, nil // what isn't there is told by the copy, with the reason
}

func (k *copying) pack(source string, to archive.CopyInfo) (dir string, content io.ReadCloser, err error) {
	from, err := archive.CopyInfoSourcePath(source, k.follow)
	if err != nil {
		return "", nil, err
	}
	packed, err := archive.TarResource(from)
	if err != nil {
		return "", nil, err
	}
	dir, content, err = archive.PrepareArchiveCopy(packed, from, to)
	if err != nil {
		packed.Close()
	}
	return dir, content, err
}

func (k *copying) tell(s *session.Session, n int64, from, to string) {
	if _, tty := session.Terminal(s.Err); !k.quiet && tty {
		fmt.Fprintf(s.Err, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(n), 3), to)
	}
}

// counter counts the bytes that pass.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
