// Package tool pins the clients that the tests of builds drive the daemon with: buildx
// and buildctl. It is a module of its own, so that what they are made of doesn't
// become a part of Orlop's.
package tool
