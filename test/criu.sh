#!/usr/bin/env bash
# Installs CRIU from Debian's testing with its own libraries, as /usr/local/sbin/criu:
# that of Debian 12 does not run on kernels of 2025 and later.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "root is needed to install criu" >&2; exit 1; }
dir=/usr/local/lib/criu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{lists/partial,cache/archives/partial}
touch "$tmp/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian forky main" >"$tmp/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$tmp/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$tmp" -o "Dir::State::status=$tmp/status"
	-o "Dir::Cache=$tmp/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
"${apt[@]}" update
"${apt[@]}" -y --download-only install criu
rm -rf "$dir.new"
for deb in "$tmp"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$dir.new"; done
rm -rf "$dir"
mv "$dir.new" "$dir"
lib=$dir/usr/lib/$(uname -m)-linux-gnu
cat >/usr/local/sbin/criu <<SCRIPT
#!/bin/sh
exec $lib/ld-linux-*.so.* --library-path $lib $dir/usr/sbin/criu "\$@"
SCRIPT
chmod +x /usr/local/sbin/criu
