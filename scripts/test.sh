#!/usr/bin/env bash
# Runs all tests with the race detector: scripts/test.sh [go test flag or package]...
# (no package: all, those of the modules in test/ and tools/ too, which build the servers
# that they need). What they need beside Go is listed here. As root, or with
# CI=true, what is missing is installed by apt-get; else the line that installs
# it is printed, and what has to be left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# The C compiler that the race detector links with, and its headers.
has_cc() {
  echo '#include <stdlib.h>
int main(void) { return 0; }' | ${CC:-gcc} -x c -o /dev/null - >/dev/null 2>&1
}

# A daemon, which may not be on the PATH of who is not root.
has_daemon() {
  command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]]
}

has_nginx() {
  has_daemon nginx && compgen -G '/etc/nginx/modules-enabled/*stream.conf'
}

# Debian packages | a command that succeeds if they are there | what is left out
# without them. For a program: command -v NAME.
needs=(
  "gcc libc6-dev|has_cc|the race detector"
  "etcd-server|command -v etcd|etcd 3.4, the oldest one that is supported"
  "strace|command -v strace|servers whose disk is slow"
  "haproxy|has_daemon haproxy|HAProxy: its check of configurations, its runtime socket, requests through it"
  "etcd-client|command -v etcdctl|what the agent withdraws from etcd when its machine goes down"
  "systemd systemd-container dbus|command -v systemd-nspawn|the agent as a service of a booted systemd"
  "lintian man-db groff|command -v lintian|the packages: lintian, man pages, install, upgrade, remove, purge"
  "rpm|command -v rpm|the rpm"
  "puppet-agent|command -v puppet|puppet apply, as examples/provisioners has it"
  "ansible-core|command -v ansible-playbook|ansible-playbook, as examples/provisioners has it"
  "itamae|command -v itamae|the recipe of examples/provisioners, which itamae runs in chef's place"
  "nginx-light libnginx-mod-stream|has_nginx|the template for nginx"
)

# missing prints the lines of needs that are not met.
missing() {
  local line check
  for line in "${needs[@]}"; do
    check=${line#*|}
    ${check%|*} >/dev/null || echo "$line"
  done
}

# install gets packages by apt-get; it asks nothing and waits for a locked dpkg.
install() {
  local as=()
  ((EUID == 0)) || as=(sudo -n)
  "${as[@]}" apt-get update -q || return
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
    --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

lines=$(missing)
if [[ -n $lines ]]; then
  read -ra packages <<<"$(cut -d'|' -f1 <<<"$lines" | tr '\n' ' ')"
  if ((EUID == 0)) || [[ ${CI:-} == true ]]; then
    echo "test: installing what the tests need: ${packages[*]}"
    install "${packages[@]}" || echo "test: apt-get could not install it" >&2
  else
    echo "test: not all that the tests need is here; this installs it:"
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}"
  fi
  while IFS='|' read -r _ _ what; do
    [[ -z $what ]] || echo "test: left out: $what"
  done < <(missing)
  if [[ ${CI:-} == true && -n $(missing) ]]; then
    echo "test: in CI nothing may be left out" >&2
    exit 1
  fi
fi

flags=(-shuffle=on)
# How many random bursts of writes each store gets, and faults in them. (Locally
# a few, `make soak` does 10,000.)
if [[ ${CI:-} == true ]]; then
  export STORETEST_BURSTS=300 STORETEST_FAULTS=10
fi
# The module itself is built without cgo; the race detector is cgo's.
if has_cc; then
  export CGO_ENABLED=1
  flags+=(-race)
fi
# The last argument that is no flag is a package; without one it is all of them,
# and the tests of packages and in a booted systemd.
modules=(.)
all=false
[[ $# -gt 0 && ${!#} != -* ]] || {
  set -- "$@" ./...
  all=true
  for mod in test/*/go.mod tools/package/go.mod; do
    modules+=("${mod%/go.mod}")
  done
}
# tests MODULE ARG...: runs them and says how long that took.
tests() {
  local module=$1 start=$SECONDS result=0
  shift
  echo "test: in $module: go test ${flags[*]} $*"
  go -C "$module" test "${flags[@]}" "$@" || result=1
  echo "test: in $module: $((SECONDS - start)) s"
  return "$result"
}

result=0
tests "${modules[0]}" "$@" || result=1
# The others wait for servers more than they work, so they run at once.
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
jobs=()
for i in "${!modules[@]}"; do
  ((i > 0)) || continue
  tests "${modules[i]}" "$@" >"$out/$i" 2>&1 &
  jobs[i]=$!
done
for i in "${!jobs[@]}"; do
  wait "${jobs[i]}" || result=1
  cat "$out/$i"
done
if "$all"; then
  scripts/test-systemd.sh || result=1
  scripts/test-packages.sh || result=1
fi
exit "$result"
