#!/usr/bin/env bash
# The main job, on a private daemon and a registry on loopback: make an image of a
# Debian root file system, busybox and two more layers, push it, pull it into a
# clean store, run it, exec into it, see its logs and figures, kill the daemon
# under it, and clean up.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "the demo starts containers: run it as root" >&2; exit 1; }
export PATH=$PWD/bin:$PATH
dir=$(mktemp -d /tmp/orlop-demo-XXXX)
export ORLOP_ADDRESS=$dir/state/orlopd.sock
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
daemon() { # on which store
	orlopd --root "$dir/$1" --state "$dir/state" >>"$dir/orlopd.log" 2>&1 & daemon=$!
	for _ in $(seq 200); do orlopctl version >/dev/null 2>&1 && return; sleep 0.05; done
	cat "$dir/orlopd.log" >&2; exit 1
}
stop() { kill "$daemon" && wait "$daemon" || true; daemon=; }
cleanup() {
	if [ -n "${daemon:-}" ]; then
		orlopctl containers rm --force web >/dev/null 2>&1 || true
		stop
	fi
	[ -n "${registry:-}" ] && kill "$registry" && wait "$registry" 2>/dev/null || true
	for m in $(awk -v d="$dir/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r); do umount -l "$m"; done
	rm -rf "$dir"
}
trap cleanup EXIT

step "a root file system of Debian (the first time it is fetched, which takes a minute)"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orlop-demo
if [ ! -s "$cache/debian.tar" ]; then
	mkdir -p "$cache"
	debootstrap --variant=minbase bookworm "$dir/debian" >"$dir/debootstrap.log" 2>&1 || { tail "$dir/debootstrap.log" >&2; exit 1; }
	rm -rf "$dir"/debian/var/cache/apt/archives/*.deb "$dir"/debian/var/lib/apt/lists/*
	tar -C "$dir/debian" --numeric-owner --one-file-system -cf "$cache/debian.tar.new" . && mv "$cache/debian.tar.new" "$cache/debian.tar"
	rm -rf "$dir/debian"
fi
go run ./test/mkimage -rootfs "$dir/image" <"$cache/debian.tar"
tar -C "$dir/image" -cf "$dir/image.tar" .

step "a registry on loopback, and orlopd on a clean store"
port=$((20000 + RANDOM % 20000))
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$dir/registry" $port >"$dir/registry.yml"
docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 & registry=$!
daemon first
for _ in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.05; done
show orlopctl version

name=127.0.0.1:$port/demo/debian
image=$name:latest
step "import the image and push it to the registry"
show orlopctl images import --name "$name" "$dir/image.tar"
show orlopctl images push "$image"

step "pull and unpack it into a second, clean store"
stop
daemon second
time show orlopctl images pull "$image"
show orlopctl images ls

step "run"
time show orlopctl run --rm "$image" cat /etc/debian_version /hello
show orlopctl run -d --id web --memory 64M --log "file://$dir/web.log" "$image" sh -c 'echo "web is up"; exec sleep 300'

step "exec, processes, logs and figures"
show orlopctl tasks exec web sh -c 'echo "I am process $$ of $(hostname)"; busybox ps'
show orlopctl tasks ps web
show cat "$dir/web.log"
show orlopctl tasks metrics web

step "the daemon is killed; the container lives on and is found again"
kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true
daemon second
show orlopctl tasks ls

step "clean up, and see that nothing is left"
show orlopctl containers rm --force web
show orlopctl images rm "$image"
show orlopctl gc run
show orlopctl fsck
echo; echo "demo: all done"
