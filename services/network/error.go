package network

import "github.com/orlop/orlop/core/worded"

// refuse is an error in the words that clients compare.
func refuse(class error, format string, args ...any) error { return worded.New(class, format, args...) }
