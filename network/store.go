package network

import (
	"context"
	"time"
)

// Record is a network with what only people and their programs ask for. Drivers
// never see it.
type Record struct {
	Network
	// Created is when it was made.
	Created time.Time
	// Labels are the caller's; nothing here reads them.
	Labels map[string]string `json:",omitempty"`
	// Given are the options in the caller's words, of which Options were read.
	Given map[string]string `json:",omitempty"`
	// Addressing are the options of the address management, as given.
	Addressing map[string]string `json:",omitempty"`
	// ConfigOnly networks are configurations of others; ConfigFrom is the name of the
	// one that a network uses.
	ConfigOnly bool   `json:",omitempty"`
	ConfigFrom string `json:",omitempty"`
	// Attachable is echoed: every network of one host is.
	Attachable bool `json:",omitempty"`
	// Predefined networks are always there.
	Predefined bool `json:",omitempty"`
}

// Store keeps the networks of a host. What is connected to them isn't kept: that
// lives and ends with the kernel that knows the interfaces.
type Store interface {
	// CreateNetwork keeps a network. It returns ErrAlreadyExists for an ID that is
	// known.
	CreateNetwork(ctx context.Context, r Record) error
	// UpdateNetwork replaces a record. It returns ErrNotFound for an unknown ID.
	UpdateNetwork(ctx context.Context, r Record) error
	// DeleteNetwork forgets a network. It returns ErrNotFound for an unknown ID.
	DeleteNetwork(ctx context.Context, id string) error
	// ListNetworks returns all, by ID.
	ListNetworks(ctx context.Context) ([]Record, error)
}
