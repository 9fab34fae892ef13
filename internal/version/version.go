// Package version says which build this is.
package version

import "runtime/debug"

// Release is the release's number; containerd's clients want it to be 2.0.0 or
// later to use the newer services.
const Release = "2.3.0"

// Revision is the commit the program was built from, empty where unknown.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
