package containerd

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/services/introspection/v1"
	mountsapi "github.com/containerd/containerd/api/services/mounts/v1"
	sandboxapi "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	mountproxy "github.com/containerd/containerd/v2/core/mount/proxy"
	"github.com/containerd/containerd/v2/core/sandbox"
	sandboxproxy "github.com/containerd/containerd/v2/core/sandbox/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
)

// containerd's proxy of the mount manager, as ctr uses it to look into an image.
func TestMountManager(t *testing.T) {
	m := mountproxy.NewMountManager(mountsapi.NewMountsClient(daemon(t, t.TempDir(), "")))
	ctx := namespaces.WithNamespace(t.Context(), "suite")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list := []mount.Mount{{Type: "bind", Source: dir, Options: []string{"rbind", "ro"}}}
	if _, err := m.Activate(ctx, "x", list); !errdefs.IsNotImplemented(err) {
		t.Errorf("mounts that the system can make: %v", err)
	}
	a, err := m.Activate(ctx, "x", list, mount.WithTemporary, mount.WithLabels(map[string]string{"a": "b"}))
	if err != nil {
		t.Fatal(err)
	}
	err = mount.WithTempMount(ctx, a.System, func(root string) error {
		_, err := os.Stat(filepath.Join(root, "hello"))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if all, err := m.List(ctx, "labels.a==b"); err != nil || len(all) != 1 || all[0].Name != "x" {
		t.Errorf("list: %+v %v", all, err)
	}
	if i, err := m.Info(ctx, "x"); err != nil || len(i.Active) != 1 {
		t.Errorf("info: %+v %v", i, err)
	}
	if err := m.Deactivate(ctx, "x"); err != nil {
		t.Error(err)
	}
	if err := m.Deactivate(ctx, "x"); !errdefs.IsNotFound(err) {
		t.Errorf("again: %v", err)
	}
}

// containerd's proxy of the sandbox store.
func TestSandboxStore(t *testing.T) {
	s := sandboxproxy.NewSandboxStore(sandboxapi.NewStoreClient(daemon(t, t.TempDir(), "")))
	ctx := namespaces.WithNamespace(t.Context(), "suite")
	made, err := s.Create(ctx, sandbox.Sandbox{ID: "box", Labels: map[string]string{"a": "b"}, Runtime: sandbox.RuntimeOpts{Name: "r"}, Sandboxer: "shim"})
	if err != nil || made.CreatedAt.IsZero() {
		t.Fatalf("%+v %v", made, err)
	}
	if _, err := s.Create(ctx, sandbox.Sandbox{ID: "box", Runtime: sandbox.RuntimeOpts{Name: "r"}}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	if _, err := s.Update(ctx, sandbox.Sandbox{ID: "box", Labels: map[string]string{"a": "c"}}, "labels.a"); err != nil {
		t.Error(err)
	}
	if got, err := s.Get(ctx, "box"); err != nil || got.Labels["a"] != "c" || got.Sandboxer != "shim" || got.Runtime.Name != "r" {
		t.Errorf("%+v %v", got, err)
	}
	if all, err := s.List(ctx, "labels.a==c"); err != nil || len(all) != 1 {
		t.Errorf("list: %+v %v", all, err)
	}
	if err := s.Delete(ctx, "box"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(ctx, "box"); !errdefs.IsNotFound(err) {
		t.Errorf("after the end: %v", err)
	}
}

// The runtime plugin tells of its shim.
func TestPluginInfo(t *testing.T) {
	c := introspection.NewIntrospectionClient(daemon(t, t.TempDir(), ""))
	r, err := c.PluginInfo(context.Background(), &introspection.PluginInfoRequest{Type: "io.containerd.runtime.v2", ID: "task"})
	if err != nil {
		t.Fatal(err)
	}
	var info types.RuntimeInfo
	if err := r.Extra.UnmarshalTo(&info); err != nil && r.Extra.GetTypeUrl() != "containerd.types.RuntimeInfo" {
		t.Fatal(err)
	}
	if r.Plugin.ID != "task" || len(r.Extra.GetValue()) == 0 {
		t.Errorf("%v", r)
	}
	if r, err := c.PluginInfo(context.Background(), &introspection.PluginInfoRequest{Type: "io.containerd.content.v1", ID: "content"}); err != nil || r.Extra != nil {
		t.Errorf("a plugin without more to tell: %v %v", r, err)
	}
	if _, err := c.PluginInfo(context.Background(), &introspection.PluginInfoRequest{Type: "io.containerd.content.v1", ID: "none"}); err == nil {
		t.Error("a plugin that isn't there tells something")
	}
}
