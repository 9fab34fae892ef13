#!/usr/bin/env bash
# Installs the clients and peers that tests drive Orlop with, from Debian.
set -euo pipefail
need=()
command -v ctr >/dev/null || need+=(containerd)
command -v runc >/dev/null || need+=(runc)
command -v crun >/dev/null || need+=(crun)
command -v skopeo >/dev/null || need+=(skopeo)
command -v docker-registry >/dev/null || need+=(docker-registry)
command -v docker >/dev/null || need+=(docker.io) # for its client
command -v docker-compose >/dev/null || need+=(docker-compose)
command -v debootstrap >/dev/null || need+=(debootstrap)
command -v mkfs.btrfs >/dev/null || need+=(btrfs-progs)
command -v mkfs.xfs >/dev/null || need+=(xfsprogs)
command -v dbus-daemon >/dev/null || need+=(dbus-daemon)
[ -x /bin/busybox ] || need+=(busybox-static)
command -v nft >/dev/null || need+=(nftables)
command -v ip >/dev/null || need+=(iproute2)
command -v qemu-aarch64-static >/dev/null || need+=(qemu-user-static) # runs the other architecture's init
command -v git >/dev/null || need+=(git) # and its server
command -v gcc >/dev/null || need+=(gcc libc6-dev)
command -v node >/dev/null || need+=(nodejs)
command -v ssh-add >/dev/null || need+=(openssh-client)
command -v chromium >/dev/null || need+=(chromium) # looks at the registry's pages
command -v rsyslogd >/dev/null || need+=(rsyslog)
command -v newuidmap >/dev/null || need+=(uidmap) # for daemons of ordinary users
command -v slirp4netns >/dev/null || need+=(slirp4netns)
command -v xz >/dev/null || need+=(xz-utils)
command -v bzip2 >/dev/null || need+=(bzip2)
command -v pgrep >/dev/null || need+=(procps)
/usr/bin/python3 -c "import docker" 2>/dev/null || need+=(python3-docker)
# What test/compose makes an application of.
[ -x /usr/sbin/nginx ] || need+=(nginx-light)
command -v redis-server >/dev/null || need+=(redis-server)
[ -x /usr/lib/postgresql/15/bin/postgres ] || need+=(postgresql-15)
[ -x /usr/bin/python3 ] || need+=(python3)
[ ${#need[@]} -eq 0 ] && exit 0
[ "$(id -u)" = 0 ] || { echo "root is needed to install: ${need[*]}" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Packages that start daemons must not do so here.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap 'rm -f $policy' EXIT; fi
# PostgreSQL makes no cluster of its own.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
{ apt-get update -qq && apt-get install -y -qq "${need[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -f "$log"
