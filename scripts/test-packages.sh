#!/usr/bin/env bash
# Tests the packages: scripts/test-packages.sh. Two builds are compared, lintian
# and man look at them, and one is installed, upgraded, removed and purged, in a
# chroot and in a booted systemd, each on an overlay of this machine's root
# (LOWER=DIR: of another one). Needs root. What cannot be done here is named, and
# that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

leave_out() { echo "test: left out: $*"; }
fail() {
  echo "test: packages: FAILED: $*" >&2
  exit 1
}
say() { echo "test: packages: $*: $((SECONDS - start)) s"; }

((EUID == 0)) || { leave_out "the packages: they need root" && exit 0; }
for program in dpkg-deb dpkg lintian man groff lexgrog; do
  command -v "$program" >/dev/null || { leave_out "the packages: there is no $program (Debian: lintian man-db groff)" && exit 0; }
done
unshare --mount --pid --fork mount -t tmpfs none /mnt 2>/dev/null || { leave_out "the packages: this root may not mount" && exit 0; }

work=$(mktemp -d)
finish() {
  mountpoint -q "$work/root" && umount "$work/root"
  mountpoint -q "$work/fs" && umount "$work/fs"
  rm -rf "$work"
}
trap finish EXIT
host=$(go env GOHOSTARCH)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

start=$SECONDS
VERSION=1.0 DIST=$work/a scripts/package.sh release >/dev/null
(cd "$work/a" && sha256sum -c --quiet SHA256SUMS) || fail "SHA256SUMS"
for deb in "$work"/a/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/bin/listener >"$work/binary"
  if LC_ALL=C ldd "$work/binary" 2>&1 | grep -qv 'not a dynamic executable'; then
    fail "the binary in $deb is not static"
  fi
done
say "make release for amd64 and arm64, static"

# Another directory, another user's habits, the same source.
start=$SECONDS
mkdir "$work/copy"
git ls-files -z --cached --others --exclude-standard | tar --null -cf - -T - | tar -C "$work/copy" -xf -
(umask 077 && cd "$work/copy" && TZ=Asia/Tokyo VERSION=1.0 DIST=$work/b ARCHES=$host scripts/package.sh release >/dev/null)
for f in "$work"/b/*.deb "$work"/b/*.rpm "$work"/b/*.tar.gz; do
  cmp "$f" "$work/a/${f##*/}" || fail "two builds of ${f##*/} differ"
done
say "two builds are equal"

start=$SECONDS
old=$work/a/listener_1.0-1_$host.deb
lintian --allow-root --fail-on error,warning "$old" || fail "lintian"
dpkg-deb --fsys-tarfile "$old" | tar -C "$work" -xf - ./usr/share/man
for page in "$work"/usr/share/man/man?/*.gz; do
  name=$(basename "$page" .gz)
  zcat "$page" >"$work/$name"
  [[ $(head -c 4 "$work/$name") != .so\  ]] || continue
  out=$(groff -man -Tutf8 -ww -z "$work/$name" 2>&1 && MANWIDTH=80 man --warnings -E UTF-8 -l "$work/$name" 2>&1 >/dev/null && lexgrog "$work/$name" 2>&1 >/dev/null) || fail "$name: $out"
  [[ -z $out ]] || fail "$name: $out"
done
for command in $(dpkg-deb --fsys-tarfile "$old" | tar -xO ./usr/bin/listener >"$work/binary" && chmod +x "$work/binary" &&
  "$work/binary" schema --commands | sed -n 's/^ *"path": "\(.*\)",$/\1/p' | tr ' ' -); do
  [[ -e $work/$command.1 ]] || fail "there is no man page $command(1)"
done
say "lintian and the man pages are content"

# upgrade: what the tests upgrade to.
VERSION=1.1 DIST=$work/a ARCHES=$host scripts/package.sh deb >/dev/null
new=$work/a/listener_1.1-1_$host.deb

start=$SECONDS
scripts/packages/chroot.sh "$old" "$new" || fail "in a chroot"
say "install, upgrade, remove, purge in a chroot"

if command -v rpm >/dev/null; then
  start=$SECONDS
  scripts/packages/rpm.sh "$work"/a/listener-1.0-1.*"$(sed 's/amd64/x86_64/; s/arm64/aarch64/' <<<"$host")".rpm || fail "rpm"
  say "install and erase the rpm in a chroot"
else
  leave_out "the rpm: there is no rpm (Debian: rpm)"
fi

for program in systemd-nspawn systemd-run dbus-daemon; do
  command -v "$program" >/dev/null || { leave_out "packages in a booted systemd: there is no $program (Debian: systemd, systemd-container, dbus)" && exit 0; }
done
start=$SECONDS
scripts/sd-test.sh "$old:/srv/old.deb" "$new:/srv/new.deb" -- scripts/systemd/p{1-install,2-reboot,3-remove}.sh
say "install, reboot, upgrade, remove, purge in a booted systemd"
