package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/services/build/stores"
)

// sweepWait bounds the removal of one step that outlived its daemon.
const sweepWait = 10 * time.Second

// Sweep removes what the builds of a daemon that was killed have left: their steps,
// mounts, folders, and leases, so that the collector takes what those held. Call it
// before anything is built.
func (b *Builder) Sweep(ctx context.Context) error {
	errs := []error{b.sweepSteps(ctx)}
	for _, dir := range []string{filepath.Join(b.cfg.State, "run"), filepath.Join(b.cfg.State, "mounts"), filepath.Join(b.cfg.State, shownFolder), b.cfg.Temp} {
		errs = append(errs, sweepFolder(dir))
	}
	return errors.Join(append(errs, b.sweepLeases(ctx))...)
}

// sweepSteps ends steps that still run: their process is no child of the daemon's.
func (b *Builder) sweepSteps(ctx context.Context) error {
	bundles, err := filepath.Glob(filepath.Join(b.cfg.State, "run", "*", "config.json"))
	if err != nil || len(bundles) == 0 {
		return err
	}
	var errs []error
	for _, path := range bundles {
		id := filepath.Base(filepath.Dir(path))
		log.G(ctx).WithField("step", id).Info("a step of a build has outlived its daemon")
		short, cancel := context.WithTimeout(ctx, sweepWait)
		out, err := exec.CommandContext(short, b.cfg.Runtime, "delete", "--force", id).CombinedOutput()
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("step %s: %w: %s", id, err, bytes.TrimSpace(out)))
		}
	}
	return errors.Join(errs...)
}

// sweepFolder unmounts what is mounted below a folder, and empties it.
func sweepFolder(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := mounts.UnmountBelow(dir); err != nil {
		return err // else what is mounted would be removed
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// forgetful are the folders that BuildKit leaves empty: where it failed to mount, and
// where the socket of an agent was.
var forgetful = []string{"buildkit-mount*", ".buildkit-ssh-sock*"}

// forgottenAfter is the age at which an empty folder is no longer about to be used.
const forgottenAfter = time.Minute

// sweepForgotten removes such folders while builds go on.
func sweepForgotten(dir string, now time.Time) error {
	var errs []error
	for _, pattern := range forgetful {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, path := range list {
			if st, err := os.Lstat(path); err == nil && st.IsDir() && now.Sub(st.ModTime()) > forgottenAfter {
				_ = os.Remove(path) // which one that is used refuses
			}
		}
	}
	return errors.Join(errs...)
}

// sweepLeases ends the leases that builds hold while they run.
func (b *Builder) sweepLeases(ctx context.Context) error {
	if !b.Used() {
		return nil
	}
	var errs []error
	for _, ns := range []string{namespaces.Default, namespaces.Default + historySuffix} {
		held := namespaces.With(ctx, ns)
		list, err := b.parts.Leases.List(held, `labels."`+stores.RunLabel+`"`)
		errs = append(errs, err)
		for _, l := range list {
			errs = append(errs, b.parts.Leases.Delete(held, l.ID, false))
		}
	}
	return errors.Join(errs...)
}

// historySuffix names the namespace in which BuildKit keeps logs and records of builds.
const historySuffix = "_history"

// What BuildKit calls the records of past builds in its database, and their leases
// (solver/llbsolver/history).
const (
	historyBucket = "_records"
	historyLease  = "ref_"
)

// sweepHistory ends leases of past builds that have no record: a daemon that is killed
// between the two leaves one, which nothing else would end. The database is BuildKit's,
// and so is what it is made with.
func sweepHistory[T interface{ Bucket(name []byte) B }, B interface {
	comparable
	Get(key []byte) []byte
}](ctx context.Context, past interface{ View(func(T) error) error }, all lease.Manager) error {
	ctx = namespaces.With(ctx, namespaces.Default+historySuffix)
	list, err := all.List(ctx)
	if err != nil {
		return err
	}
	var lost []string
	err = past.View(func(tx T) error {
		var none B
		records := tx.Bucket([]byte(historyBucket))
		for _, l := range list {
			ref, ok := strings.CutPrefix(l.ID, historyLease)
			if ok && (records == none || records.Get([]byte(ref)) == nil) {
				lost = append(lost, l.ID)
			}
		}
		return nil
	})
	errs := []error{err}
	for _, id := range lost {
		errs = append(errs, all.Delete(ctx, id, false))
	}
	return errors.Join(errs...)
}
