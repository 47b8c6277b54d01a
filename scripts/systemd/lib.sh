# What the scripts of this directory share; each runs inside of a booted systemd.
set -euo pipefail

runs=/var/log/prov.log # the command writes a line per run: its id and its mode

say() { echo "    $*"; }

fail() {
  echo "FAILED  $*" >&2
  exit 1
}

# wait_for WHAT COMMAND...: until COMMAND succeeds, at most 20 s.
wait_for() {
  local what=$1 i
  shift
  for ((i = 0; i < 400; i++)); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  systemctl status --no-pager listener >&2 || true
  listener status >&2 || true
  fail "waited 20 s: $what"
}

# has TEXT: standard input has it. It reads to the end, so that who writes does
# not fail.
has() { grep "$@" >/dev/null; }
ran() { [[ -e $runs ]] && wc -l <"$runs" || echo 0; }
has_run() { (($(ran) >= $1)); }
active() { [[ $(systemctl is-active listener) == active ]]; }
pid_is_not() { [[ $(pid) != "$1" && $(pid) != 0 ]]; }
pid() { systemctl show -P MainPID listener; }
# idle: nothing is due and nothing runs.
idle() { listener status -o json | has '"synced": true'; }
settled() { wait_for "nothing is due any more" idle; }
units() { systemctl list-units --all --plain --no-legend 'listener-run-*' | awk '{print $1}'; }
no_units() { [[ -z $(units) ]]; }
# events NAME...: those of this boot, of the log of the agent.
events() { journalctl -q -b -u listener LISTENER_EVENT="$1" -o cat; }
has_event() { [[ -n $(events "$1") ]]; }
# log_has TEXT: the agent's log of this boot has it.
log_has() { journalctl -q -b -u listener -o cat | has "$1"; }

expect_runs() {
  local n
  n=$(ran)
  [[ $n == "$1" ]] || {
    listener runs >&2 || true
    fail "$2: ran $n times, not $1"
  }
}

# settings: standard input is listener.toml; the rest is the node's.
settings() {
  mkdir -p /etc/listener/data_bags/service
  {
    printf 'node = "web1"\nhost = "10.0.0.5"\n'
    cat
  } >/etc/listener/listener.toml
  cat >/etc/listener/data_bags/service/app.json <<'JSON'
{"id": "app", "requires": {"URL": "{APP_URL:-none}"}, "provides": {"WWW_URL": "http://{HOST}:{PORT}/"}, "local_port": 8080}
JSON
}

# command: the node's command, which does what /etc/prov.mode says.
command_file() {
  cat >/usr/local/bin/prov <<'SH'
#!/bin/bash
echo "says run $LISTENER_RUN_ID"
mode=$(cat /etc/prov.mode 2>/dev/null)
case $mode in
wait) touch /run/prov.started; while [[ ! -e /run/prov.go ]]; do sleep 0.02; done; rm -f /run/prov.started /run/prov.go ;;
escape) env -i setsid sleep 4343 >/dev/null 2>&1 </dev/null &
  touch /run/prov.started; sleep 60 ;;
daemon) (setsid sleep 4242 >/dev/null 2>&1 </dev/null &) ;;
talking) (setsid sleep 4242 </dev/null &) ;;
sandbox) echo "$$" >/usr/sandbox-test && cp /proc/self/cgroup /run/prov.cgroup ;;
esac
echo "$LISTENER_RUN_ID $mode" >>/var/log/prov.log
[[ $mode != fail ]]
SH
  chmod 755 /usr/local/bin/prov
}
