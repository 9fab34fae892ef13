// Command gen writes the doc comments of a module's config structs to a file.
package main

import (
	"flag"
	"log"
	"os"

	"github.com/orlop/orlop/internal/confdoc"
)

func main() {
	root := flag.String("root", ".", "the module's folder")
	module := flag.String("module", "github.com/orlop/orlop", "the module's path")
	out := flag.String("out", "docs.txt", "file to write")
	flag.Parse()
	docs, err := confdoc.Extract(*root, *module)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*out, []byte(confdoc.Format(docs)), 0o644); err != nil {
		log.Fatal(err)
	}
}
