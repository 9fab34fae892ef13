package cli

import (
	"context"

	"github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type namespaceRow struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

func (a *app) namespacesCommand() *cobra.Command {
	return a.parent("namespaces", "Namespaces keep the images and containers of different clients apart.",
		a.command("ls", "List namespaces", "  orlopctl namespaces ls", 0, 0, a.namespacesList),
		a.command("create NAME [KEY=VALUE...]", "Create a namespace", "  orlopctl namespaces create build owner=ci", 1, -1, a.namespacesCreate),
		a.command("rm NAME...", "Remove empty namespaces", "  orlopctl namespaces rm build", 1, -1, a.namespacesRemove),
		a.command("label NAME KEY=VALUE|KEY-...", "Set and remove labels", "  orlopctl namespaces label build owner=me old-", 2, -1, a.namespacesLabel),
	)
}

func (a *app) namespacesList(ctx context.Context, c *client.Client, _ []string) error {
	r, err := namespaces.NewNamespacesClient(c.Conn()).List(ctx, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return err
	}
	var rows []namespaceRow
	for _, n := range r.Namespaces {
		rows = append(rows, namespaceRow{n.Name, n.Labels})
	}
	return list(a, rows,
		column[namespaceRow]{"NAME", func(n namespaceRow) string { return n.Name }},
		column[namespaceRow]{"LABELS", func(n namespaceRow) string { return labelText(n.Labels) }})
}

func (a *app) namespacesCreate(ctx context.Context, c *client.Client, args []string) error {
	labels, err := newLabels(args[1:])
	if err != nil {
		return err
	}
	_, err = namespaces.NewNamespacesClient(c.Conn()).Create(ctx, &namespaces.CreateNamespaceRequest{
		Namespace: &namespaces.Namespace{Name: args[0], Labels: labels},
	})
	if err != nil {
		return err
	}
	return a.done(args[0])
}

func (a *app) namespacesRemove(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(name string) error {
		_, err := namespaces.NewNamespacesClient(c.Conn()).Delete(ctx, &namespaces.DeleteNamespaceRequest{Name: name})
		return err
	})
}

func (a *app) namespacesLabel(ctx context.Context, c *client.Client, args []string) error {
	labels, paths, err := labelChanges(args[1:])
	if err != nil {
		return err
	}
	_, err = namespaces.NewNamespacesClient(c.Conn()).Update(ctx, &namespaces.UpdateNamespaceRequest{
		Namespace: &namespaces.Namespace{Name: args[0], Labels: labels}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
	})
	if err != nil {
		return err
	}
	return a.done(args[0])
}
