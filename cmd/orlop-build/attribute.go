package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"

	"github.com/orlop/orlop/cmd/internal/session"
)

// attributes are the flags in the words of the Dockerfile frontend.
func (f *flags) attributes(s *session.Session) (map[string]string, error) {
	out := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			out[key] = value
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			out[key] = strconv.FormatInt(n, 10)
		}
	}
	for key, value := range f.arguments(s) {
		out["build-arg:"+key] = value
	}
	for key, value := range opts.ConvertKVStringsToMap(f.labels.GetSlice()) {
		out["label:"+key] = value
	}
	if len(f.platforms) == 0 {
		set("platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"))
	}
	set("platform", strings.Join(f.platforms, ","))
	set("target", f.target)
	set("cgroup-parent", f.cgroupParent)
	set("cpusetcpus", f.cpus)
	set("cpusetmems", f.memoryNodes)
	if f.network != "default" {
		set("force-network-mode", f.network)
	}
	switch {
	case f.noCache:
		out["no-cache"] = ""
	case len(f.noCacheOf) > 0:
		out["no-cache"] = strings.Join(f.noCacheOf, ",")
	}
	if f.pull {
		out["image-resolve-mode"] = "pull"
	}
	number("shm-size", f.shm.Value())
	number("memory", f.memory.Value())
	number("memswap", f.swap.Value())
	number("cpushares", f.cpuShares)
	number("cpuperiod", f.cpuPeriod)
	number("cpuquota", f.cpuQuota)
	var limits []string
	for _, u := range f.ulimits.GetList() {
		limits = append(limits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	set("ulimit", strings.Join(limits, ","))
	hosts, err := f.addedHosts()
	set("add-hosts", hosts)
	if err != nil {
		return nil, err
	}
	return out, f.attestations(out)
}

// arguments are values of ARG: those that are given, of which one without a value takes
// it from the environment, and proxies of the user's settings. The date of everything
// that is made comes from the environment, as other tools take it.
func (f *flags) arguments(s *session.Session) map[string]string {
	out := map[string]string{}
	if date := os.Getenv("SOURCE_DATE_EPOCH"); date != "" {
		out["SOURCE_DATE_EPOCH"] = date
	}
	for key, value := range opts.ConvertKVStringsToMapWithNil(f.args.GetSlice()) {
		if value != nil {
			out[key] = *value
		}
	}
	for key, value := range s.Config().ParseProxyConfig(s.Host(), nil) {
		if _, given := out[key]; !given && value != nil {
			out[key] = *value
		}
	}
	return out
}

// addedHosts are entries of /etc/hosts as the frontend reads them.
func (f *flags) addedHosts() (string, error) {
	var out []string
	for _, h := range f.hosts.GetSlice() {
		name, address, ok := strings.Cut(h, ":")
		if !ok {
			name, address, _ = strings.Cut(h, "=")
		}
		address = strings.Trim(address, "[]")
		if net.ParseIP(address) == nil && address != "host-gateway" {
			return "", fmt.Errorf("invalid IP address in add-host: %q", address)
		}
		out = append(out, name+"="+address)
	}
	return strings.Join(out, ","), nil
}

// attestations adds those that are asked for; one of them says how much it tells.
func (f *flags) attestations(to map[string]string) error {
	for _, a := range f.attests {
		fields := strings.Split(a, ",")
		kind, more := "", []string{}
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "type":
				kind = value
			case "disabled":
				if value == "true" || value == "" {
					kind = "none"
				}
			default:
				more = append(more, field)
			}
		}
		switch kind {
		case "sbom", "provenance":
			to["attest:"+kind] = strings.Join(more, ",")
		case "none":
		default:
			return fmt.Errorf("attestation %q: the type must be sbom or provenance", a)
		}
	}
	for kind, value := range map[string]string{"provenance": f.provenance, "sbom": f.sbom} {
		switch value {
		case "", "false":
		case "true":
			to["attest:"+kind] = ""
		default:
			to["attest:"+kind] = value
		}
	}
	return nil
}
