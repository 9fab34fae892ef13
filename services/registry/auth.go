package registry

import (
	"net/http"
)

// Action is what somebody wants to do with a repository.
type Action string

// The actions, as tokens name them.
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// Access is what a request needs. An empty repository is the registry itself.
type Access struct {
	Repository string
	Action     Action
	// Catalog asks to list repositories; with a repository, to see the name of that one.
	Catalog bool
}

// Identity is who asks.
type Identity struct {
	Name string // empty is nobody in particular
	// May tells what else this identity may do, for requests that depend on it.
	May func(Access) bool
}

// Authorizer decides who may do what. It is safe for concurrent use.
type Authorizer interface {
	// Authorize returns who asks. Who is nobody gets status 401 with a challenge,
	// who may not gets 403, both as an [*Error].
	Authorize(r *http.Request, needs ...Access) (Identity, error)
}

// everybody may do everything.
type everybody struct{}

func (everybody) Authorize(*http.Request, ...Access) (Identity, error) {
	return Identity{May: func(Access) bool { return true }}, nil
}
