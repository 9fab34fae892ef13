package command

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/option"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

func networkNoun(s *session.Session) *cobra.Command {
	return noun("network", "Manage networks", connectNetwork(s), createNetwork(s), disconnectNetwork(s), inspectNetwork(s), listNetworks(s), pruneNetworks(s), removeNetworks(s))
}

func createNetwork(s *session.Session) *cobra.Command {
	var o client.NetworkCreateOptions
	var ipv4, ipv6 bool
	var ipam option.IPAM
	driverOpts, labels := opts.NewMapOpts(nil, nil), opts.NewListOpts(opts.ValidateLabel)
	c := &cobra.Command{Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.IPAM, err = ipam.Build(); err != nil {
				return err
			}
			if c.Flags().Changed("ipv4") {
				o.EnableIPv4 = &ipv4
			}
			if c.Flags().Changed("ipv6") {
				o.EnableIPv6 = &ipv6
			}
			o.Options, o.Labels = driverOpts.GetAll(), opts.ConvertKVStringsToMap(labels.GetSlice())
			e, err := s.Engine()
			if err != nil {
				return err
			}
			made, err := e.NetworkCreate(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			for _, w := range made.Warning {
				fmt.Fprintln(s.Err, "WARNING:", w)
			}
			s.Printf("%s\n", made.ID)
			return nil
		}}
	f := c.Flags()
	f.StringVarP(&o.Driver, "driver", "d", "bridge", "Driver")
	f.VarP(driverOpts, "opt", "o", "Options of the driver")
	f.Var(&labels, "label", "Set a label of the network")
	f.BoolVar(&o.Internal, "internal", false, "No way in or out of the network")
	f.BoolVar(&ipv4, "ipv4", true, "Give addresses of IPv4")
	f.BoolVar(&ipv6, "ipv6", false, "Give addresses of IPv6")
	f.BoolVar(&o.Attachable, "attachable", false, "Let containers be connected by hand")
	f.BoolVar(&o.Ingress, "ingress", false, "Make the network of the routing mesh")
	f.StringVar(&o.Scope, "scope", "", "Scope")
	f.BoolVar(&o.ConfigOnly, "config-only", false, "Make a configuration only")
	f.StringVar(&o.ConfigFrom, "config-from", "", "Network whose configuration is copied")
	ipam.Add(f)
	return c
}

func connectNetwork(s *session.Session) *cobra.Command {
	var ip4, ip6 string
	var priority int
	aliases, links, driver, local := opts.NewListOpts(nil), opts.NewListOpts(opts.ValidateLink), opts.NewListOpts(nil), opts.NewListOpts(opts.ValidateIPAddress)
	c := &cobra.Command{Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			end := &network.EndpointSettings{Aliases: aliases.GetSlice(), Links: links.GetSlice(), GwPriority: priority}
			if driver.Len() > 0 {
				end.DriverOpts = opts.ConvertKVStringsToMap(driver.GetSlice())
			}
			if ip4 != "" || ip6 != "" || local.Len() > 0 {
				end.IPAMConfig = &network.EndpointIPAMConfig{}
				if err := parseAddresses(map[string]*netip.Addr{ip4: &end.IPAMConfig.IPv4Address, ip6: &end.IPAMConfig.IPv6Address}); err != nil {
					return err
				}
				for _, text := range local.GetSlice() {
					a, err := netip.ParseAddr(text)
					if err != nil {
						return err
					}
					end.IPAMConfig.LinkLocalIPs = append(end.IPAMConfig.LinkLocalIPs, a)
				}
			}
			e, err := s.Engine()
			if err != nil {
				return err
			}
			_, err = e.NetworkConnect(c.Context(), args[0], client.NetworkConnectOptions{Container: args[1], EndpointConfig: end})
			return err
		}}
	f := c.Flags()
	f.StringVar(&ip4, "ip", "", "IPv4 address")
	f.StringVar(&ip6, "ip6", "", "IPv6 address")
	f.Var(&local, "link-local-ip", "Link-local addresses")
	f.Var(&aliases, "alias", "Name of the container on the network")
	f.Var(&links, "link", "Link to another container")
	f.Var(&driver, "driver-opt", "Options of the driver")
	f.IntVar(&priority, "gw-priority", 0, "The network with the highest gives the default gateway")
	return c
}

func parseAddresses(texts map[string]*netip.Addr) error {
	for text, to := range texts {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		*to = a
	}
	return nil
}

func disconnectNetwork(s *session.Session) *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			_, err = e.NetworkDisconnect(c.Context(), args[0], client.NetworkDisconnectOptions{Container: args[1], Force: force})
			return err
		}}
	c.Flags().BoolVarP(&force, "force", "f", false, "Disconnect whatever state it is in")
	return c
}

func inspectNetwork(s *session.Session) *cobra.Command {
	var format string
	var o client.NetworkInspectOptions
	c := &cobra.Command{Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Print details of networks", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				found, err := e.NetworkInspect(c.Context(), ref, o)
				return found.Network, found.Raw, err
			})
		}}
	inspectFlags(c, &format)
	c.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "Tell more")
	return c
}

func listNetworks(s *session.Session) *cobra.Command {
	var format string
	var quiet, noTrunc bool
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.NetworkList(c.Context(), client.NetworkListOptions{Filters: filter.Value()})
			if err != nil {
				return err
			}
			var rows []show.Row
			for _, n := range found.Items {
				id := n.ID
				if !noTrunc {
					id = short(id)
				}
				rows = append(rows, show.Row{"ID": id, "Name": n.Name, "Driver": n.Driver, "Scope": n.Scope, "IPv4": fmt.Sprint(n.EnableIPv4), "IPv6": fmt.Sprint(n.EnableIPv6),
					"Internal": fmt.Sprint(n.Internal), "CreatedAt": n.Created.String(), "Labels": joinMap(n.Labels)})
			}
			return show.List{Columns: []string{"ID", "Name", "Driver", "Scope"}, Headers: map[string]string{"ID": "NETWORK ID", "CreatedAt": "CREATED AT"}}.
				Print(s, format, s.Config().NetworksFormat, quiet, rows)
		}}
	f := c.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "Print IDs only")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole IDs")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.VarP(&filter, "filter", "f", "Show those that match (key=value)")
	return c
}

func joinMap(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	return strings.Join(sorted(out), ",")
}

func removeNetworks(s *session.Session) *cobra.Command {
	var force bool
	c := each(s, "rm NETWORK [NETWORK...]", "Remove networks", func(ctx context.Context, e *client.Client, id string) error {
		_, err := e.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
		if force && err != nil && strings.Contains(err.Error(), "not found") {
			return nil
		}
		return err
	})
	c.Aliases = []string{"remove"}
	c.Flags().BoolVarP(&force, "force", "f", false, "One that isn't there is no error")
	return c
}

func pruneNetworks(s *session.Session) *cobra.Command {
	return pruneCommand(s, "all custom networks not used by at least one container", func(ctx context.Context, e *client.Client, f client.Filters) (pruned, error) {
		got, err := e.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: f})
		return pruned{title: "Deleted Networks:", names: got.Report.NetworksDeleted}, err
	})
}
