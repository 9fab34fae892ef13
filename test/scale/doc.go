// Package scale runs many containers at once, and kills the daemon while containers
// come and go. It looks at what is left, never at the clock: what took how long is
// printed.
//
//	go test ./test/scale -v -containers 1000 -running 500
//
// Tests need root and run in a network namespace of their own.
package scale
