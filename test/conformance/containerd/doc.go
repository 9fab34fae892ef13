// Package containerd runs the suites that containerd publishes for content stores
// and snapshotters against a real orlopd: containerd's own client proxies talk to
// it over its socket, as they would to containerd.
//
// It is a module of its own, so that containerd's code stays away from Orlop's.
// Run it by make conformance, or here by go test. It needs root.
package containerd
