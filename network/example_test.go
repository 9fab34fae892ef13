package network_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/ipam"
	"github.com/orlop/orlop/network/none"
)

// A caller chooses addresses, connects, and records what comes back before it tells
// anybody.
func Example() {
	ctx := context.Background()
	addresses, err := ipam.New(ipam.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	pool, err := addresses.TakePool(ipam.Request{})
	if err != nil {
		fmt.Println(err)
		return
	}
	own, err := addresses.Take(pool.Subnet, netip.Addr{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pool.Subnet, pool.Gateway, own)

	var driver network.Driver = none.New()
	n := network.Network{ID: "0123456789ab", Name: "alone"}
	fmt.Println(driver.Create(ctx, n), driver.Remove(ctx, n.ID))
	// Output:
	// 172.17.0.0/16 172.17.0.1 172.17.0.2/16
	// <nil> <nil>
}
