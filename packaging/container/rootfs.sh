#!/bin/sh
# rootfs.sh DIR BINARY CA-FILE
#
# Lays out in DIR, which must not exist, all that the image holds: the static
# binary, the certificates of authorities, and directories. No shell, no
# /etc/passwd. Run by the Containerfile, and by the test that starts the agent
# in what it makes. Needs root, to give directories to the image's user.
set -eu
umask 022
dir=$1 binary=$2 ca=$3
user=65532:65532 # as other images without a user database have it; the Containerfile says it too

mkdir "$dir"
mkdir -p "$dir/usr/bin" "$dir/etc/ssl/certs" "$dir/etc/listener/data_bags/service"
install -m 0755 "$binary" "$dir/usr/bin/listener"
install -m 0644 "$ca" "$dir/etc/ssl/certs/ca-certificates.crt"
mkdir "$dir/tmp"
chmod 1777 "$dir/tmp"
# What the agent writes to. A new volume that is mounted there gets the owner.
for own in var/lib/listener run/listener etc/services.d; do
	mkdir -p "$dir/$own"
	chown "$user" "$dir/$own"
done
