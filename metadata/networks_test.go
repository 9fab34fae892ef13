package metadata_test

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/network"
)

// TestNetworks: what is kept comes back from the file as it was.
func TestNetworks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	db, err := metadata.Open(path, metadata.DefaultConfig(), metadata.Backends{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	r := network.Record{Labels: map[string]string{"a": "b"}, Attachable: true, Network: network.Network{ID: "0123456789ab", Name: "n", Driver: "bridge", IPv4: true,
		Pools: []network.Pool{{Subnet: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.1.0.1"),
			Aux: map[string]netip.Addr{"x": netip.MustParseAddr("10.1.0.9")}}}, Options: network.Options{MTU: 1400}}}
	s := db.Networks()
	if err := s.UpdateNetwork(ctx, r); !errdefs.IsNotFound(err) {
		t.Errorf("update of an unknown one: %v", err)
	}
	if err := s.CreateNetwork(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateNetwork(ctx, r); !errdefs.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	if err := s.CreateNetwork(ctx, network.Record{Network: network.Network{ID: "odd"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an odd ID: %v", err)
	}
	r.Name = "m"
	if err := s.UpdateNetwork(ctx, r); err != nil {
		t.Fatal(err)
	}
	if spaces, err := db.Namespaces().List(ctx); err != nil || len(spaces) > 0 {
		t.Errorf("a network made the namespaces %v, %v", spaces, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = metadata.Open(path, metadata.DefaultConfig(), metadata.Backends{}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s = db.Networks()
	all, err := s.ListNetworks(ctx)
	if err != nil || len(all) != 1 || !reflect.DeepEqual(all[0], r) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := s.DeleteNetwork(ctx, r.ID); err != nil {
		t.Error(err)
	}
	if err := s.DeleteNetwork(ctx, r.ID); !errdefs.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}
