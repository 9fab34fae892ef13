// Package api holds the .proto files of the services that Orlop adds to
// containerd's, and the Go code made from them.
//
// A service lives in orlop/<area>/<version>. Released versions only grow:
// "buf breaking" compares them with the main branch. To change a service, edit
// its .proto file and run make gen (or go generate ./api).
package api

//go:generate go tool -modfile=../internal/tools/go.mod buf lint
//go:generate go tool -modfile=../internal/tools/go.mod buf generate
