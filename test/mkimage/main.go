// Mkimage writes the tests' image as an OCI layout into a folder. With -rootfs its
// first layer is the tar of a root file system, read from the standard input.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/orlop/orlop/test/testimage"
)

func main() {
	rootfs := flag.Bool("rootfs", false, "read the first layer's tar from the standard input")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: mkimage [-rootfs] FOLDER") }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	err := write(flag.Arg(0), *rootfs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func write(dir string, rootfs bool) error {
	if rootfs {
		return testimage.WriteOn(dir, os.Stdin)
	}
	return testimage.Write(dir)
}
