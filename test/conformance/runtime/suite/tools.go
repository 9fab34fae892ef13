//go:build tools

// Package suite names the programs of the OCI runtime validation suite, so that
// this module requires what they are built from.
package suite

import (
	_ "github.com/opencontainers/runtime-spec/specs-go"
	_ "github.com/opencontainers/runtime-tools/validation/util"
	_ "github.com/opencontainers/selinux/go-selinux/label"
	_ "github.com/urfave/cli"
)
