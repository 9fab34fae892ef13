package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

// graphFormats are how the picture can be drawn.
const graphFormats = "tree, dot or mermaid"

func graphCommand(s *session.Session) *cobra.Command {
	var format string
	var all bool
	c := &cobra.Command{Use: "graph [OPTIONS]", Short: "Draw containers with their networks, volumes and images", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			draw, ok := map[string]func([]link) string{"tree": drawTree, "dot": drawDot, "mermaid": drawMermaid}[format]
			if !ok {
				return fmt.Errorf("invalid --format %q: it is %s", format, graphFormats)
			}
			links, err := links(c.Context(), e, all)
			if err != nil {
				return err
			}
			s.Printf("%s", draw(links))
			return nil
		}}
	c.Flags().StringVar(&format, "format", "tree", graphFormats)
	c.Flags().BoolVarP(&all, "all", "a", false, "Show stopped containers too")
	return c
}

// link is one thing that a container uses.
type link struct {
	container, state string
	kind, name       string
	detail           string
}

func links(ctx context.Context, e *client.Client, all bool) ([]link, error) {
	list, err := e.ContainerList(ctx, client.ContainerListOptions{All: all})
	if err != nil {
		return nil, err
	}
	var out []link
	for _, c := range list.Items {
		out = append(out, linksOf(c)...)
	}
	slices.SortStableFunc(out, func(a, b link) int { return strings.Compare(a.container, b.container) })
	return out, nil
}

func linksOf(c container.Summary) []link {
	name := short(c.ID)
	if len(c.Names) > 0 {
		name = strings.TrimPrefix(c.Names[0], "/")
	}
	one := func(kind, what, detail string) link {
		return link{container: name, state: string(c.State), kind: kind, name: what, detail: detail}
	}
	out := []link{one("image", c.Image, "")}
	if c.NetworkSettings != nil {
		var nets []string
		for n := range c.NetworkSettings.Networks {
			nets = append(nets, n)
		}
		for _, n := range sorted(nets) {
			at := c.NetworkSettings.Networks[n]
			detail := ""
			if at != nil && at.IPAddress.IsValid() {
				detail = at.IPAddress.String()
			}
			out = append(out, one("network", n, detail))
		}
	}
	for _, m := range c.Mounts {
		what, kind := m.Name, "volume"
		if m.Type != "volume" {
			what, kind = m.Source, string(m.Type)
		}
		out = append(out, one(kind, what, m.Destination))
	}
	for _, p := range c.Ports {
		if p.PublicPort > 0 {
			out = append(out, one("port", fmt.Sprintf("%s:%d", p.IP, p.PublicPort), fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)))
		}
	}
	return out
}

func drawTree(links []link) string {
	var b strings.Builder
	for i, l := range links {
		if i == 0 || links[i-1].container != l.container {
			fmt.Fprintf(&b, "%s (%s)\n", l.container, l.state)
		}
		branch := "├──"
		if i == len(links)-1 || links[i+1].container != l.container {
			branch = "└──"
		}
		fmt.Fprintf(&b, "%s %s %s", branch, l.kind, l.name)
		if l.detail != "" {
			fmt.Fprintf(&b, " → %s", l.detail)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func drawDot(links []link) string {
	var b strings.Builder
	b.WriteString("digraph orlop {\n  rankdir=LR;\n")
	for _, l := range links {
		fmt.Fprintf(&b, "  %q [shape=box];\n  %q [shape=%s];\n  %q -> %q [label=%q];\n", l.container, l.kind+" "+l.name, shape(l.kind), l.container, l.kind+" "+l.name, l.detail)
	}
	b.WriteString("}\n")
	return b.String()
}

func shape(kind string) string {
	switch kind {
	case "network":
		return "ellipse"
	case "volume", "bind", "tmpfs":
		return "cylinder"
	case "port":
		return "diamond"
	}
	return "note"
}

func drawMermaid(links []link) string {
	ids := map[string]string{}
	id := func(text string) string {
		if ids[text] == "" {
			ids[text] = fmt.Sprintf("n%d", len(ids))
		}
		return ids[text]
	}
	var b strings.Builder
	b.WriteString("graph LR\n")
	clean := strings.NewReplacer(`"`, "'", "\n", " ")
	for _, l := range links {
		other := l.kind + " " + l.name
		fmt.Fprintf(&b, "  %s[\"%s\"] -->|\"%s\"| %s[\"%s\"]\n", id(l.container), clean.Replace(l.container), clean.Replace(l.detail+" "), id(other), clean.Replace(other))
	}
	return b.String()
}
