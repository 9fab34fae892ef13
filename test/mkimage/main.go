// Mkimage writes the tests' image as an OCI layout into a folder.
package main

import (
	"fmt"
	"os"

	"github.com/orlop/orlop/test/testimage"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mkimage FOLDER")
		os.Exit(2)
	}
	if err := testimage.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}
