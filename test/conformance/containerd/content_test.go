package containerd

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/content/testsuite"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
)

var counter atomic.Int64

// store makes the suite's store: the daemon's, in a namespace that nobody else
// has, since the suite wants an empty one.
func store(conn *grpc.ClientConn) testsuite.StoreInitFn {
	return func(ctx context.Context, _ string) (context.Context, content.Store, func() error, error) {
		wrap := func(ctx context.Context, shared bool) (context.Context, func(context.Context) error, error) {
			ns := fmt.Sprintf("%s-%d", "suite", counter.Add(1))
			if shared {
				_, err := namespacesapi.NewNamespacesClient(conn).Create(ctx, &namespacesapi.CreateNamespaceRequest{
					Namespace: &namespacesapi.Namespace{Name: ns, Labels: map[string]string{"containerd.io/namespace.shareable": "true"}}})
				if err != nil {
					return nil, nil, err
				}
			}
			ctx = namespaces.WithNamespace(ctx, ns)
			// Held by a lease, so that the collector doesn't take what a test has made.
			l, err := leasesapi.NewLeasesClient(conn).Create(ctx, &leasesapi.CreateRequest{})
			if err != nil {
				return nil, nil, err
			}
			ctx = withLease(ctx, l.Lease.ID)
			return ctx, func(context.Context) error { return nil }, nil
		}
		ctx = testsuite.SetContextWrapper(ctx, wrap)
		return ctx, proxy.NewContentStore(contentapi.NewContentClient(conn)), func() error { return nil }, nil
	}
}

func TestContentShared(t *testing.T) {
	conn := daemon(t, t.TempDir(), "")
	testsuite.ContentSuite(t, "shared", store(conn))
	testsuite.ContentCrossNSSharedSuite(t, "shared", store(conn))
}

func TestContentIsolated(t *testing.T) {
	conn := daemon(t, t.TempDir(), "[plugins.'io.containerd.metadata.v1.bolt']\ncontent_sharing_policy = 'isolated'\n")
	testsuite.ContentSuite(t, "isolated", store(conn))
	testsuite.ContentCrossNSIsolatedSuite(t, "isolated", store(conn))
	testsuite.ContentSharedNSIsolatedSuite(t, "isolated", store(conn))
}
