package docker

import (
	"net/http"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/network"

	"github.com/orlop/orlop/services/engine"
	networks "github.com/orlop/orlop/services/network"
)

var networkRoutes = []route{
	{method: "GET", path: "/networks", handle: listNetworks},
	{method: "GET", path: "/networks/", handle: listNetworks},
	{method: "POST", path: "/networks/create", handle: createNetwork},
	{method: "POST", path: "/networks/prune", handle: pruneNetworks},
	{method: "GET", path: "/networks/{id}", handle: inspectNetwork},
	{method: "DELETE", path: "/networks/{id}", handle: removeNetwork},
	{method: "POST", path: "/networks/{id}/connect", handle: connectNetwork},
	{method: "POST", path: "/networks/{id}/disconnect", handle: disconnectNetwork},
}

// networks are the use-cases of networks, if there are any.
func (s *Server) networks() (*networks.Service, error) {
	if s.engine.Networks == nil {
		return nil, notThere("networks: the plugin io.orlop.networks.v1.local is off")
	}
	return s.engine.Networks, nil
}

func listNetworks(s *Server, c *call) error {
	n, err := s.networks()
	if err != nil {
		return err
	}
	f, err := c.filters()
	if err != nil {
		return err
	}
	list, err := engine.FitNetworks(n, f)
	if err != nil {
		return err
	}
	out := []any{}
	for _, r := range list {
		// Older clients find these fields in a list, too.
		if c.version < plainNetworkList {
			out = append(out, api.Inspect{Network: encodeNetwork(r), Containers: map[string]api.EndpointResource{}})
		} else {
			out = append(out, api.Summary{Network: encodeNetwork(r)})
		}
	}
	return c.send(http.StatusOK, out)
}

func createNetwork(s *Server, c *call) error {
	n, err := s.networks()
	if err != nil {
		return err
	}
	var req api.CreateRequest
	if err := c.body(&req, true); err != nil {
		return err
	}
	switch {
	case req.Driver == "overlay" || req.Ingress || req.Scope == "swarm":
		return noSwarm(s, c)
	case req.Scope != "" && req.Scope != "local":
		return badRequest("invalid scope %q", req.Scope)
	}
	if c.version < ipv4Optional {
		req.EnableIPv4 = nil
	}
	o, err := decodeNetwork(&req)
	if err != nil {
		return err
	}
	r, err := n.Create(c.r.Context(), o)
	if err != nil {
		return err
	}
	return c.send(http.StatusCreated, api.CreateResponse{ID: r.ID})
}

func decodeNetwork(req *api.CreateRequest) (networks.Creation, error) {
	o := networks.Creation{Name: req.Name, Driver: req.Driver, IPv4: req.EnableIPv4, IPv6: req.EnableIPv6, Internal: req.Internal,
		Attachable: req.Attachable, Options: req.Options, Labels: req.Labels, ConfigOnly: req.ConfigOnly}
	if req.ConfigFrom != nil {
		o.ConfigFrom = req.ConfigFrom.Network
	}
	if req.IPAM == nil {
		return o, nil
	}
	o.Addressing, o.AddressingOptions = req.IPAM.Driver, req.IPAM.Options
	for _, p := range req.IPAM.Config {
		if !p.Subnet.IsValid() && (p.IPRange.IsValid() || p.Gateway.IsValid() || len(p.AuxAddress) > 0) {
			return o, badRequest("invalid network config:\ninvalid IPAM config: a range, gateway or auxiliary address needs a subnet")
		}
		if !p.Subnet.IsValid() {
			continue
		}
		o.Pools = append(o.Pools, networks.Pool{Subnet: p.Subnet, Range: p.IPRange, Gateway: p.Gateway, Aux: p.AuxAddress})
	}
	return o, nil
}

func inspectNetwork(s *Server, c *call) error {
	n, err := s.networks()
	if err != nil {
		return err
	}
	r, err := n.Find(c.vars["id"])
	if err == nil && c.query("scope") != "" && c.query("scope") != "local" {
		return &apiError{"network " + c.vars["id"] + " not found", http.StatusNotFound}
	}
	if err != nil {
		return err
	}
	out := inspected(s, n, r)
	if c.version >= networkStatus {
		out.Status = statusOf(n, r)
	}
	return c.send(http.StatusOK, out)
}

// inspected is a network with what is connected to it.
func inspected(s *Server, n *networks.Service, r networks.Record) api.Inspect {
	out := api.Inspect{Network: encodeNetwork(r), Containers: map[string]api.EndpointResource{}}
	for id, e := range n.Connected(r.ID) {
		x := api.EndpointResource{Name: id, EndpointID: e.ID, MacAddress: api.HardwareAddr(e.MAC)}
		if v, err := s.engine.Inspect(id); err == nil {
			x.Name = v.Name
		}
		for _, a := range e.Addresses {
			if a.Addr().Is4() {
				x.IPv4Address = a
			} else {
				x.IPv6Address = a
			}
		}
		out.Containers[id] = x
	}
	return out
}

func encodeNetwork(r networks.Record) api.Network {
	out := api.Network{Name: r.Name, ID: r.ID, Created: r.Created, Scope: "local", Driver: r.Driver, EnableIPv4: r.IPv4, EnableIPv6: r.IPv6,
		Internal: r.Internal, Attachable: r.Attachable, Options: r.Given, Labels: r.Labels,
		IPAM: api.IPAM{Driver: "default", Options: r.Addressing, Config: []api.IPAMConfig{}}}
	if r.Driver == networks.None {
		out.Driver = "null"
	}
	out.ConfigOnly, out.ConfigFrom.Network = r.ConfigOnly, r.ConfigFrom
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, p := range r.Pools {
		out.IPAM.Config = append(out.IPAM.Config, api.IPAMConfig{Subnet: p.Subnet, IPRange: p.Range, Gateway: p.Gateway, AuxAddress: p.Aux})
	}
	return out
}

func removeNetwork(s *Server, c *call) error {
	n, err := s.networks()
	if err != nil {
		return err
	}
	if err := n.Remove(c.r.Context(), c.vars["id"]); err != nil {
		return err
	}
	return c.done()
}

func connectNetwork(s *Server, c *call) error {
	var req api.ConnectRequest
	if err := c.body(&req, true); err != nil {
		return err
	}
	if c.version < addressOfConnect && req.EndpointConfig != nil {
		req.EndpointConfig.MacAddress = nil
	}
	if err := s.engine.Connect(c.r.Context(), req.Container, c.vars["id"], req.EndpointConfig); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func disconnectNetwork(s *Server, c *call) error {
	var req api.DisconnectRequest
	if err := c.body(&req, true); err != nil {
		return err
	}
	if err := s.engine.Disconnect(c.r.Context(), req.Container, c.vars["id"], req.Force); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func pruneNetworks(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	names, err := s.engine.PruneNetworks(c.r.Context(), f)
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, api.PruneReport{NetworksDeleted: names})
}

// driverNames are the drivers of networks that info tells.
func (s *Server) driverNames() []string {
	out := []string{"host", "null"}
	if s.engine.Networks != nil {
		out = s.engine.Networks.Drivers()
		if i := slices.Index(out, networks.None); i >= 0 {
			out[i] = "null"
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
