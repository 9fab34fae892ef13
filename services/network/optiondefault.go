package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OptionDefaults are options of new networks that don't say, by driver.
type OptionDefaults map[string]map[string]string

// ReadOptionDefaults reads a list of "driver=option=value", the form of the Engine's
// default-network-opt.
func ReadOptionDefaults(list []string) (OptionDefaults, error) {
	out := OptionDefaults{}
	for _, text := range list {
		parts := strings.SplitN(text, "=", 3)
		if len(parts) != 3 || len(takes[parts[0]]) == 0 || parts[1] == "" {
			return nil, fmt.Errorf("%q is not like \"bridge=%s=1400\"", text, optMTU)
		}
		driver, option, value := parts[0], parts[1], parts[2]
		if out[driver] == nil {
			out[driver] = map[string]string{}
		}
		out[driver][option] = value
	}
	for _, driver := range slices.Sorted(maps.Keys(out)) {
		options := out[driver]
		if options[optName] != "" {
			return nil, fmt.Errorf("%s is the name of one network alone", optName)
		}
		if _, err := readOptions(driver, options); err != nil {
			return nil, err
		}
		if _, _, err := families(&Creation{Options: options}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addDefaults gives a network that is to be made the options that it doesn't say. What
// they say of address families counts for less than what the caller says of them.
func (c *Creation) addDefaults(all OptionDefaults, driver string) {
	options := maps.Clone(all[driver])
	if c.IPv4 != nil {
		delete(options, optIPv4)
	}
	if c.IPv6 != nil {
		delete(options, optIPv6)
	}
	if len(options) == 0 {
		return
	}
	maps.Copy(options, c.Options)
	c.Options = options
}
