#!/usr/bin/env bash
# Runs scripts inside a booted systemd: scripts/sd-test.sh [SOURCE:DESTINATION]... -- SCRIPT...
# Each SCRIPT gets a boot of its own, all on one overlay of this machine's root
# file system, so that what one leaves the next one finds after a reboot. The
# first that fails ends it. Beside each script, lib.sh is read if it is there.
# Each SOURCE file is there as DESTINATION. Needs root and systemd-container.
#
# LOWER=DIR   another root file system than /, of another distribution, say
# NSOPT=...   options of systemd-nspawn; default --private-network
# TIMEOUT=S   how long one script may take; default 100
set -euo pipefail

name=listener-test-$$
dir=$(mktemp -d)
root=$dir/root
nspawn= leader=

# Where the kernel still has control groups of version 1 there are several trees.
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  cgroups=(/sys/fs/cgroup)
else
  cgroups=()
  for c in systemd unified memory pids cpu; do
    [[ ! -d /sys/fs/cgroup/$c ]] || cgroups+=("/sys/fs/cgroup/$c")
  done
fi

finish() {
  # The init's end is that of all in its container, and of nspawn.
  if [[ -n $nspawn ]]; then
    kill -KILL "${leader:-$(pgrep -P "$nspawn" | head -1)}" 2>/dev/null || kill -KILL "$nspawn" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
  fi
  for c in "${cgroups[@]}"; do
    [[ ! -d $c/$name ]] || find "$c/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  mountpoint -q "$root" && umount "$root"
  mountpoint -q "$dir" && umount "$dir"
  rm -rf "$dir"
}
trap finish EXIT

overlay() {
  mount -t tmpfs -o size=2g,mode=755 "$name" "$dir"
  mkdir "$dir/upper" "$dir/work" "$root"
  mount -t overlay "$name" -o "lowerdir=${LOWER:-/},upperdir=$dir/upper,workdir=$dir/work" "$root"
  rm -f "$root"/etc/systemd/system/*.wants/* "$root/usr/sbin/policy-rc.d" # nothing of this machine starts
  rm -rf "$root"/var/log/journal
  mkdir -p "$root/var/log/journal" "$root/var/lib/sd-test" # the journal outlives a boot
  : >"$root/etc/machine-id"
}

# boot starts the init of the overlay; leader is it, seen from here. When other
# tests on this machine have all inotify instances of root (128, where nobody
# raised that), no init can start: then it is tried again.
boot() {
  local tries
  for ((tries = 0; tries < 30; tries++)); do
    if start_init; then
      # What nspawn mounts read-only the init may use where it is ours alone.
      inside sh -c 'for c in memory pids cpu; do
          [ ! -d /sys/fs/cgroup/$c ] || mount -o remount,bind,rw /sys/fs/cgroup/$c; done
        systemctl daemon-reexec; systemctl is-system-running --wait' >/dev/null || true
      return
    fi
    grep -q 'Too many open files' "$dir/console" || break
    sleep 1
  done
  echo "sd-test: no boot:" >&2
  cat "$dir/console" >&2
  return 1
}

start_init() {
  (
    for c in "${cgroups[@]}"; do
      mkdir -p "$c/$name"
      echo "$BASHPID" >"$c/$name/cgroup.procs"
    done
    # shellcheck disable=SC2086 # options are words
    exec systemd-nspawn -q -D "$root" -M "$name" --register=no --keep-unit --console=passive \
      ${NSOPT---private-network} -b >"$dir/console" 2>&1 </dev/null
  ) &
  nspawn=$! leader=
  while kill -0 "$nspawn" 2>/dev/null; do
    leader=$(pgrep -P "$nspawn" | head -1) || true
    if [[ -n $leader ]] && nsenter -t "$leader" -a test -S /run/systemd/private 2>/dev/null; then
      return 0
    fi
    sleep 0.05
  done
  nspawn= leader=
  return 1
}

inside() {
  nsenter -t "$leader" -a -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
    SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat "$@"
}

# shut_down asks the init to power off, and waits until it has.
shut_down() {
  kill -s RTMIN+4 "$leader"
  wait "$nspawn" || true
  nspawn= leader=
}

overlay
while (($#)) && [[ $1 != -- ]]; do
  source=${1%%:*}
  mode=644
  [[ ! -x $source ]] || mode=755
  install -D -m "$mode" "$source" "$root/${1##*:}"
  shift
done
shift || true
for script; do
  install -m 644 "$script" "$root/var/lib/sd-test/script"
  [[ ! -e $(dirname "$script")/lib.sh ]] || install -m 644 "$(dirname "$script")/lib.sh" "$root/var/lib/sd-test/lib.sh"
  boot
  result=0
  inside timeout "${TIMEOUT:-100}" bash -c 'cd /var/lib/sd-test; [[ ! -e lib.sh ]] || . ./lib.sh; . ./script' </dev/null || result=$?
  if ((result)); then
    echo "sd-test: $script failed ($result); the end of its journal:" >&2
    inside journalctl -q -b -n 60 -o short-monotonic --no-hostname >&2 || true
    exit "$result"
  fi
  shut_down
done
