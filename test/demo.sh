#!/usr/bin/env bash
# The main job, on private daemons in a network namespace of their own: build an image
# of a Debian root file system from a Dockerfile, push it to Orlop's registry, pull it
# into a clean store, run it with a published port, reach it from a neighbour, look at
# it, kill the daemon under it, and clean up.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "the demo starts containers: run it as root" >&2; exit 1; }
export PATH=$PWD/bin:$PATH
unset DOCKER_HOST DOCKER_CONTEXT
dir=$(mktemp -d /tmp/orlop-demo-XXXX)
host=${dir##*/} outside=${dir##*/}-out
export DOCKER_CONFIG=$dir/config
mkdir "$DOCKER_CONFIG"
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
on() { nsenter --net="/run/netns/$1" "${@:2}"; } # in a network namespace
daemon() { # NAME [FLAGS]: starts it; its pid is in $dir/NAME.pid
	nsenter --net="/run/netns/$host" orlopd --root "$dir/$1-root" --state "$dir/$1" "${@:2}" >>"$dir/$1.log" 2>&1 &
	echo $! >"$dir/$1.pid"
	export DOCKER_HOST=unix://$dir/$1/docker.sock
	for _ in $(seq 200); do orlop version >/dev/null 2>&1 && return; sleep 0.05; done
	cat "$dir/$1.log" >&2; exit 1
}
stop() { # NAME [SIGNAL]
	[ -f "$dir/$1.pid" ] || return 0
	local pid; pid=$(cat "$dir/$1.pid"); rm "$dir/$1.pid"
	kill "${2:--TERM}" "$pid" && wait "$pid" 2>/dev/null || true
}
cleanup() {
	for name in clean first; do
		[ -f "$dir/$name.pid" ] || continue
		DOCKER_HOST=unix://$dir/$name/docker.sock orlop rm -f web >/dev/null 2>&1 || true
		stop $name
	done
	for m in $(awk -v d="$dir/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r); do umount -l "$m"; done
	ip netns del "$outside" 2>/dev/null || true
	ip netns del "$host" 2>/dev/null || true
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
mkdir "$dir/app"
ln "$cache/debian.tar" "$dir/app/" 2>/dev/null || cp "$cache/debian.tar" "$dir/app/"
cp /bin/busybox "$dir/app/"
cat >"$dir/app/Dockerfile" <<'DOCKERFILE'
FROM scratch AS debian
ADD debian.tar /
FROM debian
COPY busybox /usr/local/bin/
RUN useradd --system web && mkdir /srv/web && echo "served by Debian $(cat /etc/debian_version)" > /srv/web/index.html
EXPOSE 80
HEALTHCHECK --interval=1s CMD busybox wget -qO /dev/null http://127.0.0.1/
CMD ["busybox", "httpd", "-f", "-v", "-h", "/srv/web"]
DOCKERFILE

step "a host and a neighbour, and orlopd with its registry"
ip netns add "$host"; ip netns add "$outside"
on "$host" ip link set lo up; on "$outside" ip link set lo up
on "$host" ip link add eth0 type veth peer name eth0 netns "$outside"
on "$host" ip addr add 192.0.2.1/24 dev eth0; on "$outside" ip addr add 192.0.2.2/24 dev eth0
on "$host" ip link set eth0 up; on "$outside" ip link set eth0 up
printf 'version = 4\n[plugins."io.containerd.server.v1.registry"]\nlisten = "127.0.0.1:5000"\n' >"$dir/registry.toml"
daemon first --config "$dir/registry.toml"
show orlop version --format '{{.Server.Version}}, API {{.Server.APIVersion}}'

image=127.0.0.1:5000/demo/web:1
step "build"
cat "$dir/app/Dockerfile"
time show orlop build -t $image "$dir/app"

step "push to the registry: it is the same store, so nothing is sent"
time show orlop push $image

step "pull into a second, clean store"
daemon clean
time show orlop pull $image
show orlop images

step "run, and reach it from the neighbour"
time show orlop run --rm $image cat /etc/debian_version
show orlop run -d --name web --memory 64M -p 8080:80 $image
for _ in $(seq 100); do on "$outside" timeout 1 busybox wget -qO- http://192.0.2.1:8080/ >/dev/null 2>&1 && break; sleep 0.05; done
show on "$outside" timeout 5 busybox wget -qO- http://192.0.2.1:8080/

step "exec, processes, figures, logs"
show orlop exec web sh -c 'echo "I am process $$ of $(hostname)"'
show orlop top web
show orlop stats --no-stream web
show orlop logs web
for _ in $(seq 100); do [ "$(orlop inspect -f '{{.State.Health.Status}}' web)" = healthy ] && break; sleep 0.05; done
show orlop ps

step "the daemon is killed; the container lives on and is found again"
stop clean -KILL
show on "$outside" timeout 5 busybox wget -qO- http://192.0.2.1:8080/
daemon clean
show orlop ps --format '{{.Names}}: {{.Status}}, {{.Ports}}'

step "clean up, and see that nothing is left"
show orlop stop -t 1 web
show orlop why web
show orlop rm web
show orlop system prune -af
ORLOP_ADDRESS=$dir/clean/orlopd.sock show orlopctl fsck
echo; echo "demo: all done"
