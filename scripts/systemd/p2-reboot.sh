# After a reboot: once more. Then an upgrade in the middle of a run, and one of an
# agent that somebody has stopped.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" >/tmp/apt.log 2>&1; }
wait_for "the run after the boot" has_run 2
settled
expect_runs 2 "reboot"

say "an upgrade during a run: the agent is the new one, the run ends by itself, once; what is published stays"
wait_for "the entry" eval "listener providers -o json | has WWW_URL"
published=$(listener providers -o json | sed 's/"age[^,]*,*//')
echo wait >/etc/prov.mode
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
unit=$(units)
apt install /srv/new.deb || fail "apt: $(cat /tmp/apt.log)"
[[ -e /run/prov.started && $(units) == "$unit" ]] || fail "the upgrade disturbed the run"
wait_for "the agent answers" listener status
listener status | has 'listener 1.1' || fail "not the new agent: $(listener status)"
[[ $(listener providers -o json | sed 's/"age[^,]*,*//') == "$published" ]] || fail "published was $published, is $(listener providers -o json)"
rm -f /etc/prov.mode
touch /run/prov.go
settled
expect_runs 3 "upgrade during a run"
listener runs show latest | has '^result *ok' || fail "not recorded: $(listener runs show latest)"

say "an agent that was stopped is not started by an upgrade; one that was removed is, by an installation"
systemctl stop listener
apt install --allow-downgrades /srv/old.deb || fail "apt: $(cat /tmp/apt.log)"
[[ $(systemctl is-active listener) == inactive ]] || fail "started"
apt remove listener || fail "remove: $(cat /tmp/apt.log)"
apt install /srv/new.deb || fail "apt: $(cat /tmp/apt.log)"
wait_for "the agent is back" active
settled
expect_runs 3 "installed again"
