#!/usr/bin/env bash
# Runs the examples of examples/provisioners with the agent, each in a chroot on
# an overlay of this machine's root with a process id namespace of its own:
# scripts/test-provisioners.sh [NAME]... Needs root. puppet and ansible are run for real;
# chef and cinc are not in Debian, so a stand-in does what chef-solo does. What
# cannot be run is named, and that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

leave_out() { echo "test: left out: provisioners: $*"; }
((EUID == 0)) || { leave_out "they need root" && exit 0; }
unshare --mount --pid --fork mount -t tmpfs none /mnt 2>/dev/null || { leave_out "this root may not mount" && exit 0; }

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
make build BIN="$out" >/dev/null

# one NAME: the example in a root of its own.
one() (
  . scripts/overlay.sh
  rm -rf "$root/etc/listener" "$root/etc/services.d" "$root/var/lib/listener" "$root/run/listener"
  mkdir -p "$root/etc/services.d"
  cp -r "examples/provisioners/$1" "$root/etc/listener"
  install -m 755 "$out/listener" "$root/usr/bin/listener"
  mkdir -p "$root/test"
  cp -r scripts/provisioners/. "$root/test/"
  timeout 100 unshare --pid --fork --kill-child --mount --propagation private chroot "$root" env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    bash -c 'mount -t proc proc /proc && mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 444 /dev/urandom c 1 9 &&
      mount -t tmpfs run /run && mkdir -p /run/lock /dev/shm && ln -s /proc/self/fd /dev/fd && cd /test && . ./lib.sh && . "./$0.sh"' "$1"
)

(($#)) || set -- script ansible puppet chef
result=0
for name; do
  case $name in
  ansible) command -v ansible-playbook >/dev/null || { leave_out "ansible (Debian: ansible-core)" && continue; } ;;
  puppet) command -v puppet >/dev/null || { leave_out "puppet (Debian: puppet-agent)" && continue; } ;;
  chef) command -v python3 >/dev/null || { leave_out "the stand-in for chef-solo (Debian: python3)" && continue; } ;;
  esac
  start=$SECONDS
  one "$name" >"$out/log" 2>&1 </dev/null || { result=1 && cat "$out/log"; }
  echo "test: provisioner $name: $((SECONDS - start)) s"
done
exit "$result"
