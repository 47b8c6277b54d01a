#!/usr/bin/env bash
# Installs OLD, upgrades to NEW, removes and purges, in a chroot where no init
# runs: scripts/packages/chroot.sh OLD.deb NEW.deb. What is left afterwards has
# to be named in docs/install.md, below "What stays".
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages/overlay.sh

install -m 644 "$1" "$root/old.deb"
install -m 644 "$2" "$root/new.deb"
in_root=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive)
quiet() { "${in_root[@]}" "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2 && fail "$*"; }; }

changed >"$dir/before"
quiet dpkg -i /old.deb
quiet dpkg -V listener
[[ ! -s $dir/out ]] || fail "dpkg -V: $(cat "$dir/out")"
[[ -L $root/etc/systemd/system/multi-user.target.wants/listener.service ]] || fail "not enabled"
quiet listener check
[[ $("${in_root[@]}" listener version) == "listener 1.0 "* ]] || fail "another version"

# Settings that somebody wrote, and state, outlive an upgrade and a removal.
echo 'region = "eu"' >"$root/etc/listener/listener.toml"
mkdir -p "$root/var/lib/listener"
echo state >"$root/var/lib/listener/state.json"
quiet dpkg -i --force-confdef --force-confold /new.deb
[[ $("${in_root[@]}" listener version) == "listener 1.1 "* ]] || fail "not upgraded"
[[ $(cat "$root/etc/listener/listener.toml") == 'region = "eu"' ]] || fail "the upgrade changed the settings"
quiet dpkg -r listener
[[ ! -e $root/usr/bin/listener && -e $root/etc/listener/listener.toml && -e $root/var/lib/listener/state.json ]] ||
  fail "after the removal: $(ls "$root/usr/bin/listener" "$root/etc/listener" "$root/var/lib/listener" 2>&1)"
quiet dpkg -i /new.deb
[[ $(cat "$root/etc/listener/listener.toml") == 'region = "eu"' ]] || fail "a new installation changed the settings"
echo "export A='b'" >"$root/etc/services.d/app.conf"
quiet dpkg -P listener
changed >"$dir/after"

left=$(comm -3 "$dir/before" "$dir/after" | tr -d "\t")
stays=$(sed -n '/^### What stays/,/^##* [^W]/p' docs/install.md)
for path in $left; do
  named=
  for part in $path $(dirname "$path") "${path%-}"; do
    [[ $stays != *"\`$part\`"* ]] || named=yes
  done
  [[ -n $named ]] || fail "left and not named in docs/install.md: $path"
done
