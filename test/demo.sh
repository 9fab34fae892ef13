#!/usr/bin/env bash
# The main job, on a private daemon and a registry on loopback: make an image of
# two layers, push it, pull it into a clean store, run it, exec into it, measure
# it, and clean up.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "the demo starts containers: run it as root" >&2; exit 1; }
dir=$(mktemp -d /tmp/orlop-demo-XXXX)
sock=$dir/state/orlopd.sock
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
ctl() { ctr -a "$sock" "$@"; }
cleanup() {
	ctl t rm -f web >/dev/null 2>&1 || true
	ctl c rm web >/dev/null 2>&1 || true
	[ -n "${daemon:-}" ] && kill "$daemon" && wait "$daemon" || true
	[ -n "${registry:-}" ] && kill "$registry" && wait "$registry" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

step "a registry on loopback, and orlopd on a clean store"
port=$((20000 + RANDOM % 20000))
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$dir/registry" $port >"$dir/registry.yml"
docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 & registry=$!
bin/orlopd --root "$dir/root" --state "$dir/state" >"$dir/orlopd.log" 2>&1 & daemon=$!
for _ in $(seq 100); do [ -S "$sock" ] && (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.05; done
ctl version | sed -n '/Server/,$p'

step "an image of three layers, pushed to the registry"
go run ./test/mkimage "$dir/image"
image=127.0.0.1:$port/demo/busybox:latest
skopeo copy -q --insecure-policy --dest-tls-verify=false "oci:$dir/image:latest" "docker://$image"
echo "$image"

step "pull and unpack"
ctl image pull --plain-http "$image" | tail -n 2

step "run"
ctl run --rm "$image" hello /bin/cat /hello
ctl run -d "$image" web /bin/sleep 300

step "exec"
ctl t exec --exec-id demo web /bin/sh -c 'echo "I am process $$ of a container"; ps'

step "stats"
ctl t metrics web | grep -E 'memory.usage_in_bytes|pids|cpuacct.usage ' || true

step "the daemon is killed; the container lives on and is found again"
kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true
bin/orlopd --root "$dir/root" --state "$dir/state" >>"$dir/orlopd.log" 2>&1 & daemon=$!
for _ in $(seq 100); do ctl version >/dev/null 2>&1 && break; sleep 0.05; done
ctl t ls
ctl t kill -s KILL web
echo; echo "demo: all done"
