#!/usr/bin/env bash
# Tests the agent as a service of a real systemd, in containers on an overlay of
# this machine's root file system: scripts/test-systemd.sh. Takes about 20 s.
# Each part is a series of scripts, one per boot of the same node. Where this
# cannot be done it says why, and that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

leave_out() {
  echo "test: left out: the tests in a booted systemd: $1"
  exit 0
}

((EUID == 0)) || leave_out "they need root"
for program in systemd-nspawn systemd-run dbus-daemon; do
  command -v "$program" >/dev/null || leave_out "there is no $program (Debian: systemd, systemd-container, dbus)"
done
unshare --mount --pid --fork mount -t tmpfs none /mnt 2>/dev/null || leave_out "this root may not mount"

parts=("a1-first-boot a2-reboot a3-off a4-still-off")
if command -v etcd >/dev/null && command -v etcdctl >/dev/null; then
  parts+=("b1-etcd b2-withdrawn")
else
  echo "test: left out: a store that is down at boot, and a machine that goes down (Debian: etcd-server, etcd-client)"
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
make build BIN="$out" >/dev/null
units=packaging/systemd
files=(
  "$out/listener:/usr/bin/listener"
  "$units/listener.service:/etc/systemd/system/listener.service"
  "$units/listener.socket:/etc/systemd/system/listener.socket"
  "$units/listener.tmpfiles:/usr/lib/tmpfiles.d/listener.conf"
  "$units/listener.sysusers:/usr/lib/sysusers.d/listener.conf"
)

# part NAME...: the scripts of one node.
part() {
  local start=$SECONDS result=0
  scripts/sd-test.sh "${files[@]}" -- "${@/#/scripts/systemd/}" || result=1
  echo "test: systemd: $*: $((SECONDS - start)) s"
  return "$result"
}

result=0
jobs=()
for i in "${!parts[@]}"; do
  read -ra names <<<"${parts[i]}"
  part "${names[@]/%/.sh}" >"$out/$i.log" 2>&1 &
  jobs[i]=$!
done
for i in "${!jobs[@]}"; do
  wait "${jobs[i]}" || result=1
  cat "$out/$i.log"
done
exit "$result"
