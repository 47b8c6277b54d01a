# What the scripts of this directory share. The example is /etc/listener.
set -euo pipefail

# Times of the examples are for nodes, not for tests.
export LISTENER_CFG_THROTTLE__SETTLE=50ms LISTENER_CFG_THROTTLE__MIN_INTERVAL=0s LISTENER_CFG_RETRY__BASE=300ms
export LISTENER_CFG_RETRY__MAX=1s LISTENER_CFG_NODE=web1 LISTENER_CFG_HOST=10.0.0.5

fail() {
  echo "FAILED  $*" >&2
  listener status >&2 || true
  listener explain >&2 || true
  listener logs >&2 || true
  cat /test/agent.log >&2 || true
  exit 1
}

# wait_for WHAT COMMAND...: until COMMAND succeeds, at most 40 s.
wait_for() {
  local what=$1 i
  shift
  for ((i = 0; i < 800; i++)); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  fail "waited 40 s: $what"
}

has() { grep "$@" >/dev/null; }
synced() { listener status -o json | has '"synced": true'; }
# logged TEXT: the agent has it in its log.
logged() { grep -q -- "$1" /test/agent.log; }
settled() { wait_for "nothing is due any more" synced; }
runs() { listener runs -n 0 | grep -c "^[0-9]"; }
# ini TEXT: what the provisioner made of the value.
ini() { grep -qx "database = $1" /etc/app-www.ini; }

# start_agent: with a value in its store.
start_agent() {
  listener check || fail "listener check"
  listener put PRIMARY_DATABASE_URL postgres://db1/shop >/dev/null
  listener agent >/test/agent.log 2>&1 &
  wait_for "the agent answers" listener status
}

expect_runs() {
  [[ $(runs) == "$1" ]] || fail "$2: $(runs) runs, not $1"
}

# waits_for_another RUNS: somebody runs the provisioner by hand, who goes on until
# /run/go is there. A change waits, and then runs once.
waits_for_another() {
  local n
  n=$(runs)
  listener put PRIMARY_DATABASE_URL postgres://db9/shop >/dev/null
  wait_for "the run waits" eval "listener explain | has 'CLOSED *foreign lock\|held by the gate foreign lock'"
  [[ $(runs) == "$n" ]] || fail "ran beside the other one"
  touch /run/go
  wait_for "the other one's end" eval "! kill -0 $1 2>/dev/null"
  settled
  expect_runs $((n + 1)) "after the run by hand"
  ini postgres://db9/shop || fail "not provisioned with the newest value: $(cat /etc/app-www.ini)"
  listener runs show latest | has '^result *ok' || fail "$(listener runs show latest)"
}
