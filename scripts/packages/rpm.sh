#!/usr/bin/env bash
# Installs and erases a package by rpm, in a chroot with a database of its own:
# scripts/packages/rpm.sh FILE.rpm. What it needs of others is not looked at.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages/overlay.sh

install -m 644 "$1" "$root/package.rpm"
in_root=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin)
changed >"$dir/before"
"${in_root[@]}" rpm --dbpath /var/lib/rpm -i --nodeps /package.rpm || fail "rpm -i"
out=$("${in_root[@]}" rpm --dbpath /var/lib/rpm -V --nodeps listener 2>&1) || fail "rpm -V: $out"
"${in_root[@]}" rpm --dbpath /var/lib/rpm -qc listener | grep -q '^/etc/listener/listener.toml$' || fail "listener.toml is no configuration file"
[[ -L $root/etc/systemd/system/multi-user.target.wants/listener.service ]] || fail "not enabled"
"${in_root[@]}" listener check >/dev/null || fail "listener check"
"${in_root[@]}" rpm --dbpath /var/lib/rpm -e listener || fail "rpm -e"
changed >"$dir/after"
# The group stays, as the deb's does; directories of shells and licences are other packages' on a system of rpm.
left=$(comm -3 "$dir/before" "$dir/after" | tr -d "\t" |
  grep -vE '^(/etc/g(roup|shadow)-?|/usr/share/(fish(/vendor_completions.d)?|licenses|zsh(/site-functions)?))$') || true
[[ -z $left ]] || fail "left: $left"
