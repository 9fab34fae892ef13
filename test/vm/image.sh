#!/usr/bin/env bash
# Makes what the virtual machine boots from, of Debian's packages, in folder $1:
# vmlinuz, initrd and root.img (systemd, D-Bus, busybox). What is there is kept.
set -euo pipefail
dir=$1
need=()
command -v qemu-system-x86_64 >/dev/null || need+=(qemu-system-x86)
command -v debootstrap >/dev/null || need+=(debootstrap)
command -v mkfs.ext4 >/dev/null || need+=(e2fsprogs)
command -v cpio >/dev/null || need+=(cpio)
command -v depmod >/dev/null || need+=(kmod)
[ -x /bin/busybox ] || need+=(busybox-static)
if [ ${#need[@]} -gt 0 ]; then
	[ "$(id -u)" = 0 ] || { echo "root is needed to install: ${need[*]}" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
[ -e "$dir/done" ] && exit 0
mkdir -p "$dir"
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The kernel. Its package would install a boot loader's files, so it is only unpacked.
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
mkdir "$work/deb"
(cd "$work/deb" && apt-get download -qq -o APT::Sandbox::User=root "$package")
dpkg-deb -x "$work"/deb/*.deb "$work/kernel"
release=$(ls "$work/kernel/lib/modules")

# The root file system.
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,busybox-static,kmod,util-linux bookworm "$work/root" >"$dir/debootstrap.log"
rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists" "$work/root/usr/share/doc" "$work/root/usr/share/locale"
mkdir -p "$work/root/lib/modules"
mv "$work/kernel/lib/modules/$release" "$work/root/lib/modules/"
depmod -b "$work/root" "$release"
cat >"$work/root/etc/systemd/system/orlop-vm.service" <<'U'
[Unit]
Description=Tests of Orlop
After=dbus.service systemd-user-sessions.service
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw; mkdir -p /vm && tar -xf /dev/vdb -C /vm && exec /bin/sh /vm/run'
ExecStopPost=/bin/systemctl --no-block --force --force poweroff
TimeoutSec=infinity
Delegate=yes
U
mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
ln -s ../orlop-vm.service "$work/root/etc/systemd/system/multi-user.target.wants/"
for unit in getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer \
	dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-hwdb-update.service; do
	ln -sf /dev/null "$work/root/etc/systemd/system/$unit"
done
echo orlop-vm >"$work/root/etc/hostname"
mkfs.ext4 -q -F -O ^has_journal -d "$work/root" "$work/root.img" 1G

# A small initrd that finds the disk.
mkdir -p "$work/initrd"/{bin,dev,proc,new,mod}
cp /bin/busybox "$work/initrd/bin/busybox"
load=
for module in virtio_pci virtio_blk; do
	for file in $(modprobe -d "$work/root" -S "$release" --show-depends $module | awk '/^insmod/ {print $2}'); do
		[ -e "$work/initrd/mod/${file##*/}" ] || load="$load ${file##*/}"
		cp "$file" "$work/initrd/mod/"
	done
done
cat >"$work/initrd/init" <<U
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in$load; do /bin/busybox insmod /mod/\$m; done
for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /dev/vda ] && break; /bin/busybox sleep 1; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /new
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /sbin/init
U
chmod +x "$work/initrd/init"
(cd "$work/initrd" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"

mv "$work/kernel/boot/vmlinuz-$release" "$dir/vmlinuz"
mv "$work/initrd.gz" "$dir/initrd"
mv "$work/root.img" "$dir/root.img"
touch "$dir/done"
