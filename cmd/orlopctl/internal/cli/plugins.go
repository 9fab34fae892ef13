package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginsapi "github.com/orlop/orlop/api/orlop/plugins/v1"
	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/plugins/graph"
)

func (a *app) pluginsCommand() *cobra.Command {
	g := a.command("graph", "Draw what is wired to what", "  orlopctl plugins graph --format svg > orlop.svg\n  orlopctl plugins graph --format dot | dot -Tpng", 0, 0, nil)
	format := g.Flags().String("format", "text", "text, dot or svg")
	all := g.Flags().Bool("all", false, "also what is off or was passed over")
	a.work(g, func(ctx context.Context, c *client.Client, _ []string) error {
		return a.pluginsGraph(ctx, c, *format, *all)
	})
	config := a.command("config", "Print the config in force", "  orlopctl plugins config --comments", 0, 0, nil)
	comments := config.Flags().Bool("comments", false, "with what each key is for")
	a.work(config, func(ctx context.Context, c *client.Client, _ []string) error {
		return a.pluginsConfig(ctx, c, *comments)
	})
	return a.parent("plugins", "The daemon is put together from plugins: each provides a role and names the roles it needs.",
		a.command("ls", "List plugins with their state, and why one is off", "  orlopctl plugins ls", 0, 0, a.pluginsList),
		a.command("tree [PLUGIN...]", "Show what each plugin needs", "  orlopctl plugins tree\n  orlopctl plugins tree io.containerd.grpc.v1.images", 0, -1, a.pluginsTree),
		g, config,
		a.command("reload", "Read the config file again", "  orlopctl plugins reload", 0, 0, a.pluginsReload),
	)
}

// graph asks the daemon for its graph. One that only serves containerd's API
// tells its plugins without what is wired to what.
func (a *app) graph(ctx context.Context, c *client.Client) (graph.Graph, error) {
	r, err := pluginsapi.NewPluginsClient(c.Conn()).Graph(ctx, &pluginsapi.GraphRequest{})
	if status.Code(err) == codes.Unimplemented {
		return a.containerdGraph(ctx, c)
	}
	if err != nil {
		return graph.Graph{}, err
	}
	return graphOf(r), nil
}

func graphOf(r *pluginsapi.GraphResponse) graph.Graph {
	var g graph.Graph
	for _, n := range r.Nodes {
		node := graph.Node{
			ID: n.Id, Kind: n.Kind, Name: n.Name, Doc: n.Doc, Type: n.GoType, Status: graph.Status(word(n.Status, "STATUS_")), Why: n.Why,
			Required: n.Required, Proxy: n.Proxy, Live: n.Live, Took: n.Took.AsDuration(), Capabilities: n.Capabilities, Exports: n.Exports,
		}
		for _, p := range n.Platforms {
			node.Platforms = append(node.Platforms, graph.Platform{OS: p.Os, Architecture: p.Architecture, Variant: p.Variant})
		}
		g.Nodes = append(g.Nodes, node)
	}
	for _, e := range r.Edges {
		g.Edges = append(g.Edges, graph.Edge{From: e.From, To: e.To, Need: word(e.Need, "NEED_"), Used: e.Used})
	}
	g.Sort()
	return g
}

// word is the name of an enum's value in lower case, without its prefix.
func word(v fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), prefix))
}

func (a *app) containerdGraph(ctx context.Context, c *client.Client) (graph.Graph, error) {
	var g graph.Graph
	r, err := introspection.NewIntrospectionClient(c.Conn()).Plugins(ctx, &introspection.PluginsRequest{})
	if err != nil {
		return g, err
	}
	for _, p := range r.Plugins {
		n := graph.Node{ID: p.Type + "." + p.ID, Kind: p.Type, Name: p.ID, Status: graph.OK, Capabilities: p.Capabilities, Exports: p.Exports}
		if p.InitErr != nil {
			n.Status, n.Why = graph.Failed, p.InitErr.Message
			if strings.Contains(n.Why, "skip plugin") {
				n.Status = graph.Skipped
			}
		}
		n.Platforms = platformsOf(p.Platforms)
		g.Nodes = append(g.Nodes, n)
		for _, other := range r.Plugins {
			if slices.Contains(p.Requires, other.Type) || slices.Contains(p.Requires, "*") && other != p {
				g.Edges = append(g.Edges, graph.Edge{From: n.ID, To: other.Type + "." + other.ID, Need: graph.All, Used: other.InitErr == nil})
			}
		}
	}
	g.Sort()
	return g, nil
}

func platformsOf(list []*types.Platform) []graph.Platform {
	var out []graph.Platform
	for _, p := range list {
		out = append(out, graph.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	}
	return out
}

type pluginRow struct {
	ID           string            `json:"id"`
	Type         string            `json:"type"`
	Name         string            `json:"name"`
	Status       string            `json:"status"`
	Why          string            `json:"why"`
	Required     bool              `json:"required"`
	Proxy        bool              `json:"proxy"`
	Live         bool              `json:"live"`
	TookUsec     int64             `json:"tookUsec"`
	Capabilities []string          `json:"capabilities"`
	Exports      map[string]string `json:"exports"`
	Platforms    []string          `json:"platforms"`
	Needs        []needRow         `json:"needs"`
}

type needRow struct {
	ID   string `json:"id"`
	Need string `json:"need"`
	Used bool   `json:"used"`
}

func pluginRows(g graph.Graph) []pluginRow {
	var rows []pluginRow
	for _, n := range g.Nodes {
		row := pluginRow{n.ID, n.Kind, n.Name, string(n.Status), n.Why, n.Required, n.Proxy, n.Live, n.Took.Microseconds(),
			append([]string{}, n.Capabilities...), n.Exports, []string{}, []needRow{}}
		for _, p := range n.Platforms {
			row.Platforms = append(row.Platforms, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
		}
		for _, e := range g.Edges {
			if e.From == n.ID {
				row.Needs = append(row.Needs, needRow{e.To, e.Need, e.Used})
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (a *app) pluginsList(ctx context.Context, c *client.Client, _ []string) error {
	g, err := a.graph(ctx, c)
	if err != nil {
		return err
	}
	return list(a, pluginRows(g),
		column[pluginRow]{"PLUGIN", func(r pluginRow) string { return r.ID }},
		column[pluginRow]{"STATUS", func(r pluginRow) string { return r.Status }},
		column[pluginRow]{"MARKS", pluginRow.marks},
		column[pluginRow]{"TOOK", func(r pluginRow) string { return fmt.Sprintf("%.1fms", float64(r.TookUsec)/1000) }},
		column[pluginRow]{"WHY", func(r pluginRow) string { return orDash(firstLine(r.Why)) }})
}

// marks are what is special about a plugin.
func (r pluginRow) marks() string {
	var out []string
	for name, on := range map[string]bool{"required": r.Required, "proxy": r.Proxy, "live": r.Live} {
		if on {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return orDash(strings.Join(out, ","))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (a *app) pluginsTree(ctx context.Context, c *client.Client, ids []string) error {
	g, err := a.graph(ctx, c)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(pluginRows(g))
	}
	for _, id := range ids {
		if g.Node(id) == nil {
			return fmt.Errorf("there is no plugin %q", id)
		}
	}
	_, err = fmt.Fprint(a.out, g.Tree(ids...))
	return err
}

func (a *app) pluginsGraph(ctx context.Context, c *client.Client, format string, all bool) error {
	g, err := a.graph(ctx, c)
	if err != nil {
		return err
	}
	if !all {
		g = g.Working()
	}
	if a.json {
		return a.printJSON(pluginRows(g))
	}
	var text string
	switch format {
	case "text":
		text = g.Text()
	case "dot":
		text = g.DOT()
	case "svg":
		text = g.SVG()
	default:
		return fmt.Errorf("format %q is none of text, dot, svg", format)
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}

func (a *app) pluginsConfig(ctx context.Context, c *client.Client, comments bool) error {
	r, err := pluginsapi.NewPluginsClient(c.Conn()).Config(ctx, &pluginsapi.ConfigRequest{Comments: comments})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"toml": r.Toml, "files": r.Files, "warnings": r.Warnings})
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(a.err, "warning: "+w)
	}
	_, err = fmt.Fprint(a.out, r.Toml)
	return err
}

type changeRow struct {
	ID            string   `json:"id"`
	Keys          []string `json:"keys"`
	Applied       bool     `json:"applied"`
	RestartNeeded bool     `json:"restartNeeded"`
	Error         string   `json:"error"`
}

func (r changeRow) result() string {
	switch {
	case r.Error != "":
		return "not applied: " + r.Error
	case r.Applied:
		return "applied"
	}
	return "restart needed"
}

func (a *app) pluginsReload(ctx context.Context, c *client.Client, _ []string) error {
	r, err := pluginsapi.NewPluginsClient(c.Conn()).Reload(ctx, &pluginsapi.ReloadRequest{})
	if err != nil {
		return err
	}
	var rows []changeRow
	for _, x := range r.Changes {
		rows = append(rows, changeRow{x.Id, x.Keys, x.Applied, x.RestartNeeded, x.Error})
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(a.err, "warning: "+w)
	}
	if len(rows) == 0 && !a.json {
		_, err := fmt.Fprintln(a.out, "nothing has changed")
		return err
	}
	return list(a, rows,
		column[changeRow]{"PLUGIN", func(r changeRow) string {
			if r.ID == "" {
				return "(settings)"
			}
			return r.ID
		}},
		column[changeRow]{"KEYS", func(r changeRow) string { return strings.Join(r.Keys, ",") }},
		column[changeRow]{"RESULT", changeRow.result})
}
