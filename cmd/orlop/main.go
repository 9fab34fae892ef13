// Command orlop is the client for people: it makes, runs and looks at containers,
// images, networks and volumes. It speaks the Docker Engine API, to Orlop's daemon by
// default and to any other engine that DOCKER_HOST, --host or a context names, and
// takes the commands, flags and formats that users of docker know.
//
// It links no gRPC and keeps nothing running, so that it starts in a few milliseconds.
// The runtime need not read the control group's share of processors, and again while
// it runs, for a program as short as this.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"github.com/orlop/orlop/cmd/orlop/internal/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
