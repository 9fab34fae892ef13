package main

import (
	"os"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"

	"github.com/orlop/orlop/internal/version"
)

// info writes what this shim is to standard output, as the daemon asks by -info.
func info() error {
	data, err := proto.Marshal(&types.RuntimeInfo{
		Name: "io.containerd.orlop.v1", Version: &types.RuntimeVersion{Version: version.Release, Revision: version.Revision()},
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}
