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
	// usageTypes is when disk usage could be asked of some kinds alone.
	usageTypes version = 42
	// builderSize is when disk usage lost the sum of what builds keep.
	builderSize version = 42
	// networkStatus is when networks came to tell how many addresses are left.
	networkStatus version = 52
	// manifestsInList and manifestsOfImage are when lists of images and their
	// descriptions could tell their manifests.
	manifestsInList  version = 47
	manifestsOfImage version = 48
	// waitCondition is when clients could say what they wait for, and got the headers at
	// once.
	waitCondition version = 30
	// noFilterName is when lists of images lost the parameter "filter".
	noFilterName version = 41
	// oneShot is when one could have a single sample of figures.
	oneShot version = 41
	// platformOfContainer is when containers could be made for a platform.
	platformOfContainer version = 41
	// signalOfStop is when stopping could name the signal.
	signalOfStop version = 42
	// consoleSize is when a terminal's size could be told when it is made.
	consoleSize version = 42
	// websocketStreams is when a websocket could be attached to some streams alone.
	websocketStreams version = 42
	// platformOfArchive is when a part of an image could be saved, loaded and looked at.
	platformOfArchive version = 48
	// ipv4Optional is when networks could be without IPv4.
	ipv4Optional version = 48
	// platformOfImage is when the description of an image could be of a platform.
	platformOfImage version = 49
	// addressOfConnect is when connecting to a network came to choose a hardware
	// address.
	addressOfConnect version = 54
)
