package network

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// PortTaken is the error for a port of the host that somebody has already. Its class
// is ErrConflict.
type PortTaken struct {
	// Port is what was wished.
	Port Port
	// Address is the first of the host's addresses it was wished at.
	Address netip.Addr
	// Err is the kernel's answer.
	Err error
}

// Error tells what is taken.
func (e *PortTaken) Error() string {
	return fmt.Sprintf("%s port %s is taken: %v", e.Port.Protocol, netip.AddrPortFrom(e.Address, e.Port.Host), e.Err)
}

// Unwrap returns the class and the cause.
func (e *PortTaken) Unwrap() []error { return []error{errdefs.ErrConflict, e.Err} }
