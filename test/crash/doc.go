// Package crash kills the daemon at random moments and looks whether anything
// was lost or left. Clients that know nothing of Orlop (Debian's ctr) pull, run,
// exec and remove meanwhile; in some rounds a shim is killed too.
//
//	go test ./test/crash -rounds 300 -seed 1
//
// A seed fixes what is done and when; what a kill meets still depends on the
// machine. Tests need root and what test/deps.sh installs.
package crash
