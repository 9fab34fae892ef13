// Package compose runs an application of five services by the unmodified compose
// plugin of docker, which is built from its module (plugin/go.mod) and works as a
// plugin of the docker command. Its images are programs of Debian's packages with
// their libraries.
//
// Tests need root, what test/deps.sh installs, and run in a network namespace of
// their own; the page is fetched from another one.
package compose
