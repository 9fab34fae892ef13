package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	snapshots "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/archutil"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/leaseutil"
	bkversion "github.com/moby/buildkit/version"
	bkworker "github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/label"
	"golang.org/x/sync/semaphore"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/services/build/stores"
)

// Files of BuildKit's databases.
const (
	cacheFile    = "cache.db"
	metadataFile = "metadata_v2.db"
	historyFile  = "history.db"
)

// assemble puts the solver together.
func assemble(cfg Config, parts Parts) (*opened, error) {
	o := &opened{stop: make(chan struct{})}
	err := o.build(cfg, parts)
	if err != nil {
		for _, fn := range o.closers {
			err = errors.Join(err, fn())
		}
		return nil, fmt.Errorf("builder: %w", err)
	}
	o.services(cfg.Temp)
	return o, nil
}

func (o *opened) build(cfg Config, parts Parts) error {
	quietly()
	if cfg.Temp != "" {
		if err := mount.SetTempMountLocation(cfg.Temp); err != nil {
			return err
		}
	}
	bkversion.Version, bkversion.Package = about().Version, buildkitModule // what it tells of itself
	sessions, err := session.NewManager()
	if err != nil {
		return err
	}
	o.sessions = sessions
	hosts := registries(parts.Endpoints)
	opt, err := o.workerOptions(cfg, parts, hosts)
	if err != nil {
		return err
	}
	made, err := base.NewWorker(context.Background(), opt)
	if err != nil {
		return err
	}
	o.worker = &worker{made}
	pool := &bkworker.Controller{}
	if err := pool.Add(o.worker); err != nil {
		return err
	}
	steps, err := bboltcachestorage.NewStore(filepath.Join(cfg.Root, cacheFile))
	if err != nil {
		return err
	}
	past, err := boltutil.SafeOpen(filepath.Join(cfg.Root, historyFile), 0o600, nil)
	if err != nil {
		return err
	}
	o.closers = append(o.closers, past.Close)
	if err := sweepHistory(context.Background(), past, parts.Leases); err != nil {
		return err
	}
	remote, err := gateway.NewGatewayFrontend(pool.Infos(), nil)
	if err != nil {
		return err
	}
	o.control, err = control.NewController(control.Opt{
		SessionManager: sessions, WorkerController: pool,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": chooser{forwarder.NewGatewayForwarder(pool.Infos(), dockerfile.Build), parts.Networks}, "gateway.v0": chooser{remote, parts.Networks}},
		ResolveCacheExporterFuncs: cacheExporters(sessions, hosts),
		ResolveCacheImporterFuncs: cacheImporters(sessions, hosts, o.worker.ContentStore()),
		CacheManager:              solver.NewCacheManager(context.Background(), "local", steps, bkworker.NewCacheResultStorage(pool)),
		Entitlements:              entitled(cfg, parts.Users), HistoryDB: past, CacheStore: steps,
		LeaseManager: o.worker.LeaseManager(), ContentStore: o.worker.ContentStore(), HistoryConfig: history(),
		GarbageCollect: o.worker.GarbageCollect, GracefulStop: o.stop,
	})
	return err
}

// history keeps what is known of past builds for two days, and of 50 at least.
func history() *config.HistoryConfig {
	entries := int64(50)
	return &config.HistoryConfig{MaxEntries: &entries}
}

// entitled are the rights that builds may ask for.
func entitled(cfg Config, users *userns.Maps) []string {
	out := []string{}
	if cfg.Host && users == nil { // which are the host's, as its network is
		out = append(out, string(entitlements.EntitlementNetworkHost))
	}
	if cfg.Insecure && users == nil {
		out = append(out, string(entitlements.EntitlementSecurityInsecure))
	}
	return out
}

func (o *opened) workerOptions(cfg Config, parts Parts, hosts docker.RegistryHosts) (base.WorkerOpt, error) {
	var opt base.WorkerOpt
	snapshotter, err := parts.Snapshots(cfg.Snapshotter)
	if err != nil {
		return opt, err
	}
	known, err := metadata.NewStore(filepath.Join(cfg.Root, metadataFile))
	if err != nil {
		return opt, err
	}
	id, err := base.ID(cfg.Root)
	if err != nil {
		return opt, err
	}
	usage, err := resources.NewMonitor()
	if err != nil {
		return opt, err
	}
	networks := providers(parts.Networks, filepath.Join(cfg.State, "run"), parts.Users)
	var written *stores.Writes
	if parts.Users != nil {
		written = &stores.Writes{}
	}
	remap, err := remapping(parts.Users, cfg.State, written)
	if err != nil {
		return opt, err
	}
	o.closers = append(o.closers, remap.close)
	exec, err := runcexecutor.New(runcexecutor.Opt{Root: filepath.Join(cfg.State, "run"), CommandCandidates: []string{cfg.Runtime},
		DefaultCgroupParent: cgroupParent, ProcessMode: oci.ProcessSandbox, ResourceMonitor: usage}, networks)
	if err != nil {
		return opt, err
	}
	blobs := snapshots.NewContentStore(stores.Content{Store: parts.Content}, namespaces.Default)
	differ := stores.Differ{Applier: parts.Applier, Comparer: parts.Comparer}
	collect := func(ctx context.Context) (gc.Stats, error) { return nil, parts.Collect(in(ctx)) }
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return base.WorkerOpt{
		ID: id, Root: cfg.Root, BuildkitVersion: about(),
		// The label of the snapshotter tells buildx that images are kept as registries
		// have them, so that it offers several platforms, attestations and cache exports.
		Labels: map[string]string{label.Executor: "oci", label.Snapshotter: cfg.Snapshotter, label.Hostname: name, label.Network: "orlop",
			label.OCIProcessMode: oci.ProcessSandbox.String(), label.SELinuxEnabled: "false"},
		Platforms: archutil.SupportedPlatforms(true), GCPolicy: policy(cfg.Cache),
		NetworkProviders: networks, Executor: connecting{exec, remap},
		Snapshotter:  snapshots.NewSnapshotter(cfg.Snapshotter, stores.Snapshots{Snapshotter: snapshotter, Writes: written}, namespaces.Default, nil),
		ContentStore: blobs, Applier: differ, Differ: differ, ImageStore: stores.Images{Store: parts.Images},
		RegistryHosts: hosts, LeaseManager: leaseutil.WithNamespace(stores.Leases{Manager: parts.Leases}, namespaces.Default), GarbageCollect: collect,
		ParallelismSem: parallel(cfg.Parallel), MetadataStore: known, MountPoolRoot: filepath.Join(cfg.State, "mounts"), ResourceMonitor: usage,
	}, nil
}

// cgroupParent is where steps run.
const cgroupParent = "/orlop/build"

func parallel(n int64) *semaphore.Weighted {
	if n == 0 {
		return nil
	}
	return semaphore.NewWeighted(n)
}

// about is BuildKit's own version, by which clients decide what they may ask for.
func about() client.BuildkitVersion {
	out := client.BuildkitVersion{Package: buildkitModule, Version: "unknown", Revision: version.Revision()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	for _, dep := range info.Deps {
		if dep.Path == buildkitModule {
			out.Version = dep.Version
		}
	}
	return out
}

const buildkitModule = "github.com/moby/buildkit"

// policy is what is dropped when the cache is larger than it may be: first what is
// fetched again easily, then what hasn't been used for long, then anything.
func policy(most int64) []client.PruneInfo {
	if most == 0 {
		most = defaultCache
	}
	return []client.PruneInfo{
		{Filter: []string{"type==source.local,type==exec.cachemount,type==source.git.checkout"}, KeepDuration: 48 * hour, MaxUsedSpace: most / 10},
		{KeepDuration: 60 * 24 * hour, MaxUsedSpace: most},
		{MaxUsedSpace: most},
		{All: true, MaxUsedSpace: most},
	}
}
