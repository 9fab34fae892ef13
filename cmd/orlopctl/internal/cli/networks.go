package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	networks "github.com/orlop/orlop/api/orlop/network/v1"
	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type networkRow struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Driver   string            `json:"driver"`
	Subnets  []string          `json:"subnets"`
	Internal bool              `json:"internal,omitempty"`
	Created  time.Time         `json:"createdAt"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

type endpointRow struct {
	Container string   `json:"container"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	MAC       string   `json:"mac"`
	Names     []string `json:"names,omitempty"`
}

func toNetworkRow(n *networks.Network) networkRow {
	r := networkRow{ID: n.Id, Name: n.Name, Driver: n.Driver, Internal: n.Internal, Created: when(n.CreatedAt), Options: n.Options, Labels: n.Labels, Subnets: []string{}}
	for _, p := range n.Pools {
		r.Subnets = append(r.Subnets, p.Subnet)
	}
	return r
}

func (a *app) networksCommand() *cobra.Command {
	return a.parent("networks", "Networks are the host's: every namespace sees the same.",
		a.command("ls", "List networks", "  orlopctl networks ls", 0, 0, a.networksList),
		a.command("inspect NETWORK", "Show a network and what is connected to it", "  orlopctl networks inspect front", 1, 1, a.networksInspect),
		a.networksCreateCommand(),
		a.command("rm NETWORK...", "Remove networks", "  orlopctl networks rm front", 1, -1, a.networksRemove),
		a.networksConnectCommand(), a.networksDisconnectCommand(),
	)
}

func (a *app) networksList(ctx context.Context, c *client.Client, _ []string) error {
	resp, err := networks.NewNetworksClient(c.Conn()).List(ctx, &networks.ListRequest{})
	if err != nil {
		return err
	}
	var rows []networkRow
	for _, n := range resp.Networks {
		rows = append(rows, toNetworkRow(n))
	}
	return list(a, rows,
		column[networkRow]{"NAME", func(r networkRow) string { return r.Name }},
		column[networkRow]{"ID", func(r networkRow) string { return r.ID[:12] }},
		column[networkRow]{"DRIVER", func(r networkRow) string { return r.Driver }},
		column[networkRow]{"SUBNETS", func(r networkRow) string { return strings.Join(r.Subnets, " ") }},
		column[networkRow]{"LABELS", func(r networkRow) string { return labelText(r.Labels) }})
}

func (a *app) networksInspect(ctx context.Context, c *client.Client, args []string) error {
	resp, err := networks.NewNetworksClient(c.Conn()).Get(ctx, &networks.GetRequest{Ref: args[0]})
	if err != nil {
		return err
	}
	out := struct {
		networkRow
		Endpoints []endpointRow `json:"endpoints"`
	}{toNetworkRow(resp.Network), []endpointRow{}}
	lines := []string{"Name", out.Name, "ID", out.ID, "Driver", out.Driver, "Subnets", strings.Join(out.Subnets, " "),
		"Internal", fmt.Sprint(out.Internal), "Options", labelText(out.Options), "Labels", labelText(out.Labels)}
	for _, e := range resp.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointRow{e.Container, e.Name, e.Addresses, e.Mac, e.Names})
		lines = append(lines, "Container", e.Name+" "+strings.Join(e.Addresses, " ")+" "+e.Mac)
	}
	return a.show(out, lines...)
}

func (a *app) networksCreateCommand() *cobra.Command {
	cmd := a.command("create NAME [KEY=VALUE...]", "Create a network, with labels", "  orlopctl networks create front\n  orlopctl networks create back --internal --subnet 10.7.0.0/16", 1, -1, nil)
	q := &networks.CreateRequest{}
	f := cmd.Flags()
	f.StringVar(&q.Driver, "driver", "bridge", "bridge, macvlan or ipvlan")
	f.BoolVar(&q.Ipv6, "ipv6", false, "also IPv6")
	f.BoolVar(&q.Internal, "internal", false, "neither out nor in")
	subnets := f.StringArray("subnet", nil, "a subnet; one of each family is chosen otherwise")
	options := f.StringToStringP("option", "o", nil, "an option of the driver")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		labels, err := newLabels(args[1:])
		if err != nil {
			return err
		}
		q.Name, q.Labels, q.Options = args[0], labels, *options
		for _, s := range *subnets {
			q.Pools = append(q.Pools, &networks.Pool{Subnet: s})
		}
		resp, err := networks.NewNetworksClient(c.Conn()).Create(ctx, q)
		if err != nil {
			return err
		}
		return a.done(resp.Network.Id)
	})
	return cmd
}

func (a *app) networksRemove(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(ref string) error {
		_, err := networks.NewNetworksClient(c.Conn()).Delete(ctx, &networks.DeleteRequest{Ref: ref})
		return err
	})
}

func (a *app) networksConnectCommand() *cobra.Command {
	cmd := a.command("connect NETWORK CONTAINER", "Connect a container, at once if it runs", "  orlopctl networks connect front web --alias www", 2, 2, nil)
	aliases := cmd.Flags().StringArray("alias", nil, "another name for it on the network")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		_, err := networks.NewNetworksClient(c.Conn()).Connect(ctx, &networks.ConnectRequest{Network: args[0], Container: args[1], Aliases: *aliases})
		return err
	})
	return cmd
}

func (a *app) networksDisconnectCommand() *cobra.Command {
	cmd := a.command("disconnect NETWORK CONTAINER", "Disconnect a container", "  orlopctl networks disconnect front web", 2, 2, nil)
	force := cmd.Flags().Bool("force", false, "also a container that the network alone knows")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		_, err := networks.NewNetworksClient(c.Conn()).Disconnect(ctx, &networks.DisconnectRequest{Network: args[0], Container: args[1], Force: *force})
		return err
	})
	return cmd
}
