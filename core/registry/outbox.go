package registry

import (
	"context"
	"time"
)

// MaxErrands bounds what waits in one queue of an [Outbox].
const MaxErrands = 10_000

// Errand is something of a repository that others are to learn: what a tag names now,
// or a manifest without a tag. That it was deleted is known by its not being there.
type Errand struct {
	Repository string
	// Reference is a tag or a digest.
	Reference string
	// Serial grows with each change.
	Serial uint64
	Since  time.Time // of the first change that wasn't told yet
	// Tries is how often it was tried in vain, Next when it is tried again, Error why.
	Tries int       `json:",omitempty"`
	Next  time.Time `json:",omitzero"`
	Error string    `json:",omitempty"`
}

// Waiting is what is in a queue.
type Waiting struct {
	Errands int
	Oldest  time.Time // Since of the one that waits for longest; zero if there is none
	// Failing is how many were tried in vain, Error what one of them says.
	Failing int
	Error   string
	// Next is when the first is to be tried; zero if there is none.
	Next time.Time
	// Survey says that everything has to be looked at, as for a new queue, or one that
	// was full; After is the repository up to which that was done.
	Survey bool
	After  string
}

// Step is how far a survey has come.
type Step struct {
	From, After string
	Done        bool
}

// Outbox are queues of errands, written in the transactions of the [Catalog]: what was
// changed there is told, though the process is killed in between. Of one reference
// there is one errand at a time. All methods are safe for concurrent use, each is one
// durable transaction.
type Outbox interface {
	// Route names all queues and tells which of them a change goes to; others are
	// removed. It is called before the first change; to must be quick.
	Route(queues []string, to func(repo, reference string) []string) error
	// Due lists errands of a queue whose time has come, at most n, the oldest first.
	Due(ctx context.Context, queue string, now time.Time, n int) ([]Errand, error)
	// Done removes an errand, unless it has changed.
	Done(ctx context.Context, queue string, e Errand) error
	// Failed keeps an errand with its Tries, Next and Error, unless it has changed. One
	// that isn't there is added, or asks for a survey where there is no room.
	Failed(ctx context.Context, queue string, e Errand) error
	// Waiting tells what is in a queue.
	Waiting(ctx context.Context, queue string) (Waiting, error)
	// Surveyed notes how far a survey has come since it stood at a repository; done ends
	// it. One that was asked for anew meanwhile begins at the beginning.
	Surveyed(ctx context.Context, queue string, step Step) error
	// Survey asks for one.
	Survey(ctx context.Context, queue string) error
}
