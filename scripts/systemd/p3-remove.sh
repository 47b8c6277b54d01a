# Removing in the middle of a run, then purging, leaves nothing that runs.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >/tmp/apt.log 2>&1; }
processes() { pgrep -f '/usr/bin/listener|/usr/local/bin/prov'; }
no_processes() { ! processes; }
wait_for "the run after the boot" has_run 4
settled

say "remove during a run: it is cancelled; no process and no unit is left; settings and state stay"
echo wait >/etc/prov.mode
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
apt remove listener || fail "remove: $(cat /tmp/apt.log)"
wait_for "no process is left" no_processes
wait_for "no unit is left" no_units
[[ $(systemctl show -P LoadState listener) == not-found ]] || fail "the unit is known: $(systemctl status listener)"
[[ -e /etc/listener/listener.toml && -e /var/lib/listener/state.json && ! -e /run/listener ]] || fail "settings or state are gone, or run_dir is not"

say "a run that changes the package itself: it ends by itself, and is recorded"
cat >/usr/local/bin/prov <<'SH'
#!/bin/bash
set -e
echo "$LISTENER_RUN_ID" >>/var/log/prov.log
$(cat /etc/prov.mode)
echo "$LISTENER_RUN_ID ended" >>/var/log/prov.ended
SH
has_ended() { [[ -e /var/log/prov.ended && $(wc -l </var/log/prov.ended) == "$1" ]]; }
rm -f /etc/prov.mode /run/prov.started
echo true >/etc/prov.mode
apt install --allow-downgrades --no-install-recommends /srv/old.deb || fail "apt: $(cat /tmp/apt.log)"
settled
echo "apt-get -y install --no-install-recommends /srv/new.deb" >/etc/prov.mode
rm -f /var/log/prov.ended
listener provision >/dev/null
wait_for "the run that upgrades" has_ended 1
settled
listener status | has 'listener 1.1' || fail "not the new agent: $(listener status)"
listener runs show latest | has '^result *ok' || fail "not recorded: $(listener runs show latest)"
echo "apt-get -y remove listener" >/etc/prov.mode
listener provision >/dev/null
wait_for "the run that removes" has_ended 2
wait_for "no process is left" no_processes
wait_for "no unit is left" no_units

say "purge: state and settings are gone, what services use is not"
apt purge listener || fail "purge: $(cat /tmp/apt.log)"
[[ ! -e /var/lib/listener && ! -e /etc/listener/listener.toml ]] || fail "purge left state or settings"
[[ -e /etc/services.d/app.conf && -e /etc/listener/data_bags/service/app.json ]] || fail "purge took what is not the package's"
[[ -z $(find /etc/systemd /var/lib/systemd -name 'listener*') ]] || fail "left: $(find /etc/systemd /var/lib/systemd -name 'listener*')"
systemctl is-system-running --quiet || systemctl --failed --no-legend | { ! has listener; } || fail "a failed unit is left"
