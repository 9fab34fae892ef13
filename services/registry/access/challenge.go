package access

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/orlop/orlop/services/registry"
)

// TokenPath is where tokens are issued.
const TokenPath = "/auth/token"

// hostPattern is what may stand in a Host header: it goes into the challenge.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]{1,255}$`)

// challenge asks for credentials (RFC 7235; Docker's token specification).
func (g *Guard) challenge(r *http.Request, needs []registry.Access, problem, message string) error {
	if g.cfg.Basic {
		return registry.Unauthorized(fmt.Sprintf(`Basic realm=%q, charset="UTF-8"`, g.cfg.Service), message)
	}
	realm, service := g.base(r)+TokenPath, g.cfg.Service
	if g.users == nil {
		for _, i := range g.issuers {
			if i.Realm != "" {
				realm, service = i.Realm, i.Audience
				break
			}
		}
	}
	text := fmt.Sprintf("Bearer realm=%q,service=%q", realm, service)
	if scope := scopes(needs); scope != "" {
		text += fmt.Sprintf(",scope=%q", scope)
	}
	if problem != "" {
		text += fmt.Sprintf(",error=%q", problem)
	}
	return registry.Unauthorized(text, message)
}

// base is the address under which the client reaches the registry.
func (g *Guard) base(r *http.Request) string {
	if g.cfg.URL != "" {
		return strings.TrimSuffix(g.cfg.URL, "/")
	}
	host := r.Host
	if !hostPattern.MatchString(host) {
		host = "localhost"
	}
	if r.TLS != nil {
		return "https://" + host
	}
	return "http://" + host
}

// scopes writes needs as clients are to ask for them, a scope for each resource.
func scopes(needs []registry.Access) string {
	var order []string
	actions := map[string][]string{}
	for _, n := range needs {
		name, action := "repository:"+n.Repository, string(n.Action)
		if n.Catalog {
			name, action = "registry:catalog", every
		}
		if actions[name] == nil {
			order = append(order, name)
		}
		actions[name] = append(actions[name], action)
	}
	for i, name := range order {
		order[i] = name + ":" + strings.Join(actions[name], ",")
	}
	return strings.Join(order, " ")
}
