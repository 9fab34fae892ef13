package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/runtime"
)

// killedCode is the exit code of a process that was killed: 128 + SIGKILL.
const killedCode = 137

// Remove kills and cleans up a container whose shim has died, and tells how it
// ended: as the bundle says, else killed just now.
func Remove(ctx context.Context, namespace, id, bundle string) (code uint32, err error) {
	code = killedCode
	if e, ok := readExit(bundle); ok {
		code = e.code
	}
	made, err := readRequest(bundle)
	if errdefs.IsNotFound(err) {
		return code, nil // nothing was made
	}
	if err != nil {
		return code, err
	}
	opts, err := readOptions[options.Options](made.Options, "runtime")
	if err != nil {
		return code, err
	}
	root := runtimeRoot(key{namespace, id}, bundle, opts)
	if opts.BinaryName != "" {
		b := &programBox{p: &program{binary: opts.BinaryName, systemd: opts.SystemdCgroup, root: root}, id: id}
		err = b.remove(ctx)
	} else {
		err = removeEmbedded(ctx, opts, key{namespace, id}, bundle)
	}
	rootfs := filepath.Join(bundle, "rootfs")
	if mounted, _ := mounts.IsMountPoint(rootfs); mounted {
		err = errors.Join(err, mounts.UnmountAll(rootfs, true))
	}
	return code, err
}

func removeEmbedded(ctx context.Context, opts *options.Options, k key, bundle string) error {
	rt, err := runtime.Open(runtimeRoot(k, bundle, opts), runtime.Options{SystemdCgroup: opts.SystemdCgroup})
	if err != nil {
		return err
	}
	defer rt.Close()
	c, err := rt.Load(k.id)
	if errors.Is(err, runtime.ErrNotFound) {
		return discard(ctx, rt, k.id, bundle)
	}
	if err != nil {
		return err
	}
	return c.Delete(ctx, true)
}

// discard removes a container whose making was cut off before it was recorded.
func discard(ctx context.Context, rt *runtime.Runtime, id, bundle string) error {
	spec, err := runtime.ReadSpec(bundle)
	if errors.Is(err, os.ErrNotExist) {
		return nil // so early that nothing was made
	}
	if err != nil {
		return err
	}
	path := ""
	if spec.Linux != nil {
		path = spec.Linux.CgroupsPath
	}
	return rt.Discard(ctx, id, path)
}
