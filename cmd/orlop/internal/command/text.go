package command

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/cmd/internal/session"
)

// columns prints rows below each other.
func columns(w io.Writer, rows [][]string) error {
	out := tabwriter.NewWriter(w, 20, 1, 3, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(out, strings.Join(r, "\t"))
	}
	return out.Flush()
}

func dirOf(path string) string { return filepath.Dir(path) }

// familiar is an image's name as people write it, with its tag.
func familiar(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

// portLines are the published ports of a container, all or those of one.
func portLines(c container.InspectResponse, wanted string) []string {
	var out []string
	if c.NetworkSettings == nil {
		return nil
	}
	for port, bindings := range c.NetworkSettings.Ports {
		if wanted != "" && port.String() != wanted {
			continue
		}
		for _, b := range bindings {
			host := b.HostIP.String()
			if b.HostIP.Is6() {
				host = "[" + host + "]"
			}
			line := host + ":" + b.HostPort
			if wanted == "" {
				line = port.String() + " -> " + line
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// agreed asks the user; without a terminal or an answer that is a no.
func agreed(s *session.Session, question string) bool {
	fmt.Fprintf(s.Out, "%s [y/N] ", question)
	if s.In == nil {
		return false
	}
	line, err := bufio.NewReader(io.LimitReader(s.In, 64)).ReadString('\n')
	if err != nil && line == "" {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// short is an ID as tables show it.
func short(id string) string {
	_, hex, found := strings.Cut(id, ":")
	if !found {
		hex = id
	}
	return hex[:min(len(hex), 12)]
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// alignTabs prints text whose columns are parted by tabs.
func alignTabs(w io.Writer, text string) error {
	out := tabwriter.NewWriter(w, 20, 1, 1, ' ', 0)
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return out.Flush()
}
