package docker

// The versions in which answers changed their form. Inside, all have the newest.
const (
	// multiplexedType is when streams in frames got a media type of their own.
	multiplexedType version = 42
	// pruneAnonymous is when pruning volumes came to mean the anonymous ones.
	pruneAnonymous version = 42
	// deepReadOnly is when read-only mounts came to be so with all that is mounted below.
	deepReadOnly version = 44
	// plainEvents is when events lost their first fields: status, id and from.
	plainEvents version = 52
	// plainNetwork is when the address of the first network was left out beside those
	// of all networks.
	plainNetwork version = 52
	// noVirtualSize is when images lost their second size, which was the first again.
	noVirtualSize version = 44
	// noContainerConfig is when images lost the config of the container they were made
	// of.
	noContainerConfig version = 45
	// startInterval is when health checks got an interval of their own for the start.
	startInterval version = 44
	// healthInList is when lists of containers began to show health.
	healthInList version = 52
	// plainNetworkList is when lists of networks lost the field of containers.
	plainNetworkList version = 52
	// newDiskUsage is when disk usage got one part for each kind of thing.
	newDiskUsage version = 52
)
