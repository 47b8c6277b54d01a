# A node gets the agent: what the unit says of itself, and life in one boot.
for unit in listener.service listener.socket; do
  out=$(systemd-analyze verify --man=no --recursive-errors=yes "/etc/systemd/system/$unit" 2>&1) && [[ -z $out ]] ||
    fail "systemd-analyze verify $unit: $out"
done
systemd-analyze security --offline=true --threshold=39 /etc/systemd/system/listener.service >/dev/null ||
  fail "the unit's exposure has grown"
say "unit: $(systemd-analyze security --offline=true /etc/systemd/system/listener.service | tail -1)"
systemd-sysusers && systemd-tmpfiles --create listener.conf
[[ -d /etc/services.d ]] && getent group listener >/dev/null || fail "tmpfiles or sysusers did nothing"

settings <<'TOML'
[provision]
command = ["/usr/local/bin/prov"]
[throttle]
settle = "50ms"
min_interval = "0s"
burst = 0
[store]
boot_wait = "500ms"
[retry]
base = "200ms"
[publish]
drain_wait = "100ms"
TOML
command_file

mkdir -p /run/systemd/system/listener.service.d
printf '[Service]\nRestartSec=100ms\n' >/run/systemd/system/listener.service.d/test.conf

say "start: READY when the loop runs and the socket listens; the provision ran once"
systemctl enable -q --now listener
listener status >/dev/null || fail "READY, but the socket does not answer"
settled
expect_runs 1 "first start"
grep -q "URL='none'" /etc/services.d/app.conf || fail "no environment file"
[[ $(systemctl show -P StatusText listener) == "on, 1 service" ]] || fail "STATUS is $(systemctl show -P StatusText listener)"

say "the journal has the run's log lines and its output, by its id"
id=$(awk 'NR == 1 {print $1}' $runs)
wait_for "the agent's lines of run $id" eval "journalctl -q LISTENER_RUN_ID=$id -t listener -o cat | has 'run ended\|run $id ok'"
wait_for "the output of run $id" eval "journalctl -q LISTENER_RUN_ID=$id -t listener-run -o cat | has 'says run $id'"
journalctl -q -u "listener-run-$id-_node" -o cat | has "says run $id" || fail "the unit has no output of its own"
listener logs "$id" 2>&1 >/dev/null | has "journalctl LISTENER_RUN_ID=$id" || fail "listener logs does not name the journal"
wait_for "no unit is left" no_units

say "the command is outside of the agent's sandbox and control group; the agent is inside"
echo sandbox >/etc/prov.mode
listener provision --wait >/dev/null || fail "a run outside of the sandbox: $(listener logs)"
grep -q '/system.slice/listener-run-.*-_node.service' /run/prov.cgroup || fail "in another control group: $(cat /run/prov.cgroup)"
nsenter -t "$(pid)" -m sh -c 'echo 1 >/usr/sandbox-agent' 2>/dev/null && fail "the agent may write to /usr"
rm -f /etc/prov.mode

say "a drop-in of listener-run-.service.d is for every run"
mkdir -p /run/systemd/system/listener-run-.service.d
printf '[Service]\nExecStartPre=/bin/touch /run/drop-in\n' >/run/systemd/system/listener-run-.service.d/test.conf
listener provision --wait >/dev/null
[[ -e /run/drop-in ]] || fail "the drop-in did nothing"
rm -r /run/systemd/system/listener-run-.service.d

say "a daemon that the command started lives on"
echo daemon >/etc/prov.mode
listener provision --wait >/dev/null
rm /etc/prov.mode
systemctl restart listener
settled
pgrep -f 'sleep 4242' >/dev/null || fail "the daemon is gone"
pkill -f 'sleep 4242'
wait_for "no unit is left of the daemon" no_units
echo talking >/etc/prov.mode
listener provision --wait >/dev/null
rm /etc/prov.mode
systemctl is-active -q "$(units)" || fail "the unit of a daemon that holds the output is not active"
listener provision --wait >/dev/null || fail "no run beside the daemon"
pkill -f 'sleep 4242'
wait_for "no unit is left of that daemon" no_units

say "systemctl stop of a run's unit cancels the step"
echo wait >/etc/prov.mode
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
rm -f /etc/prov.mode /run/prov.started
systemctl stop "$(units)"
wait_for "the run after it" idle
listener runs -o json | has '"result": "cancelled"' || listener runs show "$(listener runs | awk 'NR == 2 {print $1}')" | has -i cancelled ||
  fail "not cancelled: $(listener runs)"

say "kill -9 of the agent during a run: it is taken over, and ran once"
n=$(ran)
echo wait >/etc/prov.mode
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
old=$(pid)
kill -KILL "$old"
wait_for "the agent is back" eval "pid_is_not $old && listener status"
[[ -e /run/prov.started ]] || fail "the command died with the agent"
touch /run/prov.go
settled
expect_runs $((n + 1)) "kill -9"
listener runs show latest | has '^result *ok' || fail "not recorded: $(listener runs show latest)"
has_event adopting || fail "not adopted"

say "an upgrade during a run: it ends by itself, once, recorded"
n=$(ran)
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
cp /usr/bin/listener /usr/bin/listener.new
mv /usr/bin/listener.new /usr/bin/listener
systemctl restart listener
touch /run/prov.go
settled
expect_runs $((n + 1)) "restart during a run"
listener runs show latest | has '^result *ok' || fail "not recorded: $(listener runs show latest)"

say "an agent and a supervisor that are killed: what is left of the command is ended, and it runs again"
n=$(ran)
echo escape >/etc/prov.mode # one process has neither our mark nor a parent that has
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
command=$(pgrep -f /usr/local/bin/prov | head -1)
supervisor=$(systemctl show -P MainPID "$(units)")
kill -KILL "$(pid)" "$supervisor"
rm -f /etc/prov.mode /run/prov.started
wait_for "the run that was lost is done again" has_run $((n + 1))
settled
[[ ! -e /proc/$command ]] || fail "the command of the lost run lives"
pgrep -f 'sleep 4343' >/dev/null && fail "a process of the lost run escaped"
wait_for "no unit is left" no_units

say "a loop that is stuck is restarted by the watchdog"
printf '[Service]\nWatchdogSec=1s\nRestartSec=100ms\n' >/run/systemd/system/listener.service.d/test.conf
systemctl daemon-reload
systemctl restart listener
settled
sleep 2.5 # more than two watchdogs: a loop that works is left alone
[[ $(systemctl show -P NRestarts listener) == 0 ]] || fail "an idle agent was restarted"
old=$(pid)
kill -STOP "$old"
wait_for "the watchdog's restart" pid_is_not "$old"
wait_for "the agent answers" listener status
log_has 'Watchdog timeout' || fail "not by the watchdog"

say "20 restarts make no further run"
n=$(ran)
for ((i = 0; i < 20; i++)); do systemctl restart listener; done
settled
expect_runs "$n" "20 restarts"

say "reload: a new setting counts, a bad file changes nothing"
old=$(pid)
sed -i 's/settle = "50ms"/settle = "60ms"/' /etc/listener/listener.toml
systemctl reload listener
wait_for "the reload" has_event reloaded
sed -i 's/^settle/setle/' /etc/listener/listener.toml
systemctl reload listener
wait_for "the refusal" log_has 'reload failed; nothing changed'
sed -i 's/^setle/settle/' /etc/listener/listener.toml
wait_for "the unit is active again" active
[[ $(pid) == "$old" ]] || fail "a reload restarted the agent"

say "bad settings: the unit is restarted until they are good"
sed -i 's/^settle/setle/' /etc/listener/listener.toml
systemctl restart listener 2>/dev/null && fail "started with bad settings"
[[ $(systemctl is-active listener) == activating ]] || fail "given up: $(systemctl is-active listener)"
sed -i 's/^setle/settle/' /etc/listener/listener.toml
wait_for "the agent is back" active

say "systemd does not start units: the command is a child, and a condition says so"
n=$(ran)
mount --bind /bin/false /usr/bin/systemd-run
nsenter -t "$(pid)" -m mount --bind /bin/false /usr/bin/systemd-run
listener provision --wait >/dev/null || fail "no run without units"
expect_runs $((n + 1)) "without units"
listener status | has 'ERROR *runner' || fail "no condition: $(listener status)"
[[ $(systemctl show -P StatusText listener) == "ERROR: runner: "* ]] || fail "STATUS is $(systemctl show -P StatusText listener)"
nsenter -t "$(pid)" -m umount /usr/bin/systemd-run
umount /usr/bin/systemd-run
listener provision --wait >/dev/null
listener status | has runner && fail "the condition stays"
wait_for "the condition's end in STATUS" test "$(systemctl show -P StatusText listener)" = "on, 1 service"

say "a full disk, a state directory that is read-only: it goes on, and is well again afterwards"
systemctl stop listener
mount -t tmpfs -o size=1m state /mnt
cp -a /var/lib/listener/. /mnt/
mount --bind /mnt /var/lib/listener
systemctl start listener
settled
n=$(ran)
dd if=/dev/zero of=/mnt/full bs=4k 2>/dev/null || true
listener provision --wait >/dev/null || fail "no run on a full disk: $(listener status)"
expect_runs $((n + 1)) "full disk"
systemctl restart listener || fail "no start on a full disk"
wait_for "the agent answers" listener status
rm /mnt/full
settled
systemctl stop listener
mount -o remount,ro /mnt
systemctl start listener || fail "no start on a read-only disk"
n=$(ran)
listener provision --wait >/dev/null || fail "no run on a read-only disk: $(listener status)"
expect_runs $((n + 1)) "read-only state_dir"
systemctl stop listener
umount /var/lib/listener /mnt
systemctl start listener
settled

say "the socket of listener.socket: who asks starts the agent"
systemctl stop listener
systemctl start listener.socket
listener status >/dev/null || fail "the socket does not start the agent"
[[ $(stat -c %a /run/listener/listener.sock) == 660 ]] || fail "the socket's mode"
systemctl stop listener.socket listener
systemctl start listener

say "20 restarts with a command that fails: spaced runs"
sed -i 's/^base = .*/base = "10s"/' /etc/listener/listener.toml
systemctl restart listener
echo fail >/etc/prov.mode
listener provision --wait >/dev/null && fail "a command that fails is said to succeed"
n=$(ran)
start=$SECONDS
for ((i = 0; i < 20; i++)); do systemctl restart listener; done
took=$((SECONDS - start))
most=$((took / 10 + 1))
(($(ran) - n <= most)) || fail "$(($(ran) - n)) runs within $took s"
say "  $(($(ran) - n)) runs within $took s"
rm /etc/prov.mode
listener provision --wait >/dev/null

say "how long a run takes of which the command takes 2 ms"
for runner in systemd direct; do
  sed -i '/^runner/d; s/^\[provision\]/[provision]\nrunner = "'$runner'"/' /etc/listener/listener.toml
  systemctl restart listener
  settled
  for ((i = 0; i < 7; i++)); do listener provision --wait >/dev/null; done
  say "  $runner: $(listener runs | sed -n 1,7p | awk '{printf "%s ", $4}')"
done
sed -i '/^runner/d' /etc/listener/listener.toml
systemctl restart listener
settled
wait_for "no unit is left at the end" no_units
ran >/root/ran
