// Package build drives builds by clients that know nothing of Orlop, each through
// another door: docker's classic API, buildx, buildctl, and our own client. A case is a
// txtar file in testdata: what a Dockerfile is to give, whoever asks for it.
//
//	go test ./test/build -run TestScenes/stages
//	go test ./test/build -run TestKilled -rounds 100 -seed 7
//
// Tests need root and what test/deps.sh installs. They run in a network namespace of
// their own; buildx and buildctl are built from the module in tool, once, and kept by
// Go's build cache.
package build
