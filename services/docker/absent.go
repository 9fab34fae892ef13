package docker

import (
	"net/http"
)

// notManager is what programs know by which there is no swarm.
const notManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`

// swarmRoutes are the parts of the API that a manager of a swarm serves.
func swarmRoutes() []route {
	out := []route{
		{method: "POST", path: "/swarm/init", handle: absent("swarm")}, {method: "POST", path: "/swarm/join", handle: absent("swarm")},
		{method: "GET", path: "/swarm", handle: noSwarm}, {method: "GET", path: "/swarm/unlockkey", handle: noSwarm},
		{method: "POST", path: "/swarm/{what...}", handle: noSwarm},
	}
	for _, kind := range []string{"nodes", "services", "tasks", "secrets", "configs"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			out = append(out, route{method: method, path: "/" + kind, handle: noSwarm}, route{method: method, path: "/" + kind + "/{what...}", handle: noSwarm})
		}
	}
	return out
}

func noSwarm(*Server, *call) error { return &apiError{notManager, http.StatusServiceUnavailable} }

// refusedRoutes are what the daemon does not do, by name.
var refusedRoutes = []route{
	{method: "GET", path: "/plugins/{name...}/json", handle: noPlugin}, {method: "DELETE", path: "/plugins/{name...}", handle: noPlugin},
	{method: "POST", path: "/plugins/{what...}", handle: absent("plugins")},
}

func noPlugin(_ *Server, c *call) error {
	return &apiError{"plugin \"" + c.vars["name"] + "\" not found", http.StatusNotFound}
}
