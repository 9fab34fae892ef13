package cli

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/services/leases/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type leaseRow struct {
	ID        string            `json:"id"`
	CreatedAt time.Time         `json:"createdAt"`
	Labels    map[string]string `json:"labels"`
}

type resourceRow struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func (a *app) leasesCommand() *cobra.Command {
	create := a.command("create [ID] [KEY=VALUE...]", "Create a lease", "  orlopctl leases create build --expire 1h", 0, -1, nil)
	expire := create.Flags().Duration("expire", 24*time.Hour, "time after which the collector drops it; 0 for never")
	a.work(create, func(ctx context.Context, c *client.Client, args []string) error {
		return a.leasesCreate(ctx, c, args, *expire)
	})
	rm := a.command("rm ID...", "Remove leases", "  orlopctl leases rm build", 1, -1, nil)
	sync := rm.Flags().Bool("sync", false, "wait until what nobody needs any more has been collected")
	a.work(rm, func(ctx context.Context, c *client.Client, args []string) error {
		return a.each(args, func(id string) error {
			_, err := leases.NewLeasesClient(c.Conn()).Delete(ctx, &leases.DeleteRequest{ID: id, Sync: *sync})
			return err
		})
	})
	return a.parent("leases", "A lease keeps what it refers to from being collected.",
		a.command("ls [FILTER...]", "List leases", "  orlopctl leases ls", 0, -1, a.leasesList), create, rm,
		a.command("resources ID", "List what a lease keeps", "  orlopctl leases resources build", 1, 1, a.leasesResources),
		a.command("add ID TYPE RESOURCE", "Make a lease keep something", "  orlopctl leases add build content sha256:…\n  orlopctl leases add build snapshots/overlayfs mine", 3, 3, a.leasesAdd),
		a.command("drop ID TYPE RESOURCE", "Make a lease no longer keep something", "  orlopctl leases drop build content sha256:…", 3, 3, a.leasesDrop),
	)
}

func (a *app) leasesList(ctx context.Context, c *client.Client, filters []string) error {
	r, err := leases.NewLeasesClient(c.Conn()).List(ctx, &leases.ListRequest{Filters: filters})
	if err != nil {
		return err
	}
	var rows []leaseRow
	for _, l := range r.Leases {
		rows = append(rows, leaseRow{l.ID, when(l.CreatedAt), l.Labels})
	}
	return list(a, rows,
		column[leaseRow]{"ID", func(l leaseRow) string { return l.ID }},
		column[leaseRow]{"AGE", func(l leaseRow) string { return age(l.CreatedAt) }},
		column[leaseRow]{"LABELS", func(l leaseRow) string { return labelText(l.Labels) }})
}

func (a *app) leasesCreate(ctx context.Context, c *client.Client, args []string, expire time.Duration) error {
	id := "orlopctl-" + newID()
	if len(args) > 0 {
		id, args = args[0], args[1:]
	}
	labels, err := newLabels(args)
	if err != nil {
		return err
	}
	if expire > 0 {
		labels["containerd.io/gc.expire"] = time.Now().Add(expire).UTC().Format(time.RFC3339)
	}
	r, err := leases.NewLeasesClient(c.Conn()).Create(ctx, &leases.CreateRequest{ID: id, Labels: labels})
	if err != nil {
		return err
	}
	return a.done(r.Lease.ID)
}

func (a *app) leasesResources(ctx context.Context, c *client.Client, args []string) error {
	r, err := leases.NewLeasesClient(c.Conn()).ListResources(ctx, &leases.ListResourcesRequest{ID: args[0]})
	if err != nil {
		return err
	}
	var rows []resourceRow
	for _, x := range r.Resources {
		rows = append(rows, resourceRow{x.Type, x.ID})
	}
	return list(a, rows,
		column[resourceRow]{"TYPE", func(r resourceRow) string { return r.Type }},
		column[resourceRow]{"RESOURCE", func(r resourceRow) string { return r.ID }})
}

func (a *app) leasesAdd(ctx context.Context, c *client.Client, args []string) error {
	_, err := leases.NewLeasesClient(c.Conn()).AddResource(ctx, &leases.AddResourceRequest{
		ID: args[0], Resource: &leases.Resource{Type: args[1], ID: args[2]},
	})
	return err
}

func (a *app) leasesDrop(ctx context.Context, c *client.Client, args []string) error {
	_, err := leases.NewLeasesClient(c.Conn()).DeleteResource(ctx, &leases.DeleteResourceRequest{
		ID: args[0], Resource: &leases.Resource{Type: args[1], ID: args[2]},
	})
	return err
}
