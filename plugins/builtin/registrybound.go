package builtin

import (
	"time"

	"github.com/orlop/orlop/services/registry"
)

// registryBounds are what clients may take of the registry; 0 is no bound.
type registryBounds struct {
	// Stall is how long a connection may move less than 16 KiB while something is being
	// sent or taken, such as 1m. There is no limit for a request as a whole.
	Stall string `toml:"stall"`
	// Connections bounds those of all clients: more wait.
	Connections int `toml:"connections"`
	// ConnectionsOfOne bounds those of one address: more are closed. Raise it where
	// all clients come through one proxy.
	ConnectionsOfOne int `toml:"connections_of_one"`
	// Uploads bounds what one client may send side by side: more are answered with 429.
	Uploads int `toml:"uploads"`
	// Open bounds uploads that one client has begun and not finished.
	Open int `toml:"open"`
}

func defaultBounds() registryBounds {
	b := registry.DefaultBounds()
	return registryBounds{Stall: b.Stall.String(), Connections: b.Connections, ConnectionsOfOne: b.ConnectionsOfOne, Uploads: b.Uploads, Open: b.Open}
}

func (b registryBounds) bounds() registry.Bounds {
	stall, _ := time.ParseDuration(b.Stall) // the caller checks it
	return registry.Bounds{Stall: stall, Connections: b.Connections, ConnectionsOfOne: b.ConnectionsOfOne, Uploads: b.Uploads, Open: b.Open}
}
