// Command orlopctl administers an Orlop daemon, or any daemon that serves
// containerd's API.
//
// It keeps nothing running and nothing on disk; interrupted, it ends what it
// was waiting for and leaves the daemon to clean up by leases.
package main

import (
	"os"

	"github.com/orlop/orlop/cmd/orlopctl/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
