package docker

import (
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/reference"
	apibuild "github.com/moby/moby/api/types/build"

	"github.com/orlop/orlop/services/build"
	"github.com/orlop/orlop/services/engine"
)

// familiarName is a reference as people write it.
func familiarName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// pruneBuilds drops what is kept for later builds and no build uses.
func pruneBuilds(s *Server, c *call) error {
	if s.builder == nil {
		return errNoBuilder
	}
	p := build.PruneOptions{All: c.flag("all")}
	for key, into := range map[string]*int64{"keep-storage": &p.Reserved, "reserved-space": &p.Reserved, "max-used-space": &p.Most, "min-free-space": &p.Free} {
		text := c.query(key)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return badRequest("%s is in bytes and expects an integer, got %q", key, text)
		}
		*into = n
	}
	f, err := c.filters()
	if err != nil {
		return err
	}
	if err := f.Known("until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"); err != nil {
		return err
	}
	if p.Filter, p.Unused, err = cacheFilter(f); err != nil {
		return err
	}
	ids, freed, err := s.builder.Prune(c.r.Context(), p)
	if err != nil {
		return err
	}
	if ids == nil {
		ids = []string{}
	}
	return c.send(http.StatusOK, apibuild.CachePruneReport{CachesDeleted: ids, SpaceReclaimed: uint64(freed)})
}

// cacheFilter gives filters BuildKit's form: all terms must match.
func cacheFilter(f engine.Filters) (terms []string, keep time.Duration, err error) {
	text := ""
	for key, values := range f {
		for _, v := range values {
			switch key {
			case "until", "unused-for":
				if keep, err = time.ParseDuration(v); err != nil {
					return nil, 0, badRequest("invalid filter %s=%s: it is a time such as 24h", key, v)
				}
				continue
			case "inuse", "shared", "private":
				text += "," + key
			case "id":
				text += ",id~=" + v
			default:
				text += "," + key + "==" + v
			}
		}
	}
	if text != "" {
		terms = []string{text[1:]}
	}
	return terms, keep, nil
}

// buildUsage is what is kept for later builds, and its size in bytes.
func (s *Server) buildUsage(c *call) (*apibuild.DiskUsage, error) {
	out := &apibuild.DiskUsage{Items: []apibuild.CacheRecord{}}
	if s.builder == nil {
		return out, nil
	}
	list, err := s.builder.Cache(c.r.Context())
	if err != nil {
		return out, err
	}
	for _, r := range list {
		one := apibuild.CacheRecord{ID: r.ID, Parents: r.Parents, Type: r.Kind, Description: r.Description, InUse: r.InUse, Shared: r.Shared,
			Size: r.Size, CreatedAt: r.Created, LastUsedAt: r.LastUsed, UsageCount: r.Used}
		out.Items = append(out.Items, one)
		out.TotalCount++
		if r.InUse {
			out.ActiveCount++
		} else if !r.Shared {
			out.Reclaimable += r.Size
		}
		if !r.Shared {
			out.TotalSize += r.Size
		}
	}
	return out, nil
}
