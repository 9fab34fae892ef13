package main

import (
	"fmt"
	"os"

	"github.com/orlop/orlop/test/testimage"
)

// registry is Debian's docker-registry with a small and a large image.
type registry struct {
	*daemon
	small, large string // names of images
}

func (b *bench) startRegistry() (*registry, error) {
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	dir := b.path("registry")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cfg := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, address)
	file := b.path("registry.yml")
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		return nil, err
	}
	d, err := startDaemon(b.path("registry.log"), nil, "tcp", address, "docker-registry", "serve", file)
	if err != nil {
		return nil, err
	}
	b.later(d.stop)
	r := &registry{daemon: d, small: address + "/bench/busybox:latest", large: address + "/bench/large:latest"}
	for name, write := range map[string]func(string) error{r.small: testimage.Write, r.large: testimage.WriteLarge} {
		layout := b.path("layout")
		if err := write(layout); err != nil {
			return nil, err
		}
		if _, err := command(nil, "skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+name); err != nil {
			return nil, err
		}
		if err := os.RemoveAll(layout); err != nil {
			return nil, err
		}
	}
	return r, nil
}
