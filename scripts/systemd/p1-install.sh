# A node gets the package while its store is down, then a fresh one.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/tmp/apt.log 2>&1; }
# What other packages do at each installation is not looked at here, and takes time.
rm -f /etc/apt/apt.conf.d/20packagekit /var/lib/man-db/auto-update
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/test
enabled() { [[ $(systemctl is-enabled listener 2>/dev/null) == enabled ]]; }

say "a store that is down, settings that are wrong: apt does not fail"
mkdir -p /etc/listener/conf.d
printf '[store]\nkind = "etcd"\nboot_wait = "300ms"\n[store.etcd]\nendpoints = ["http://127.0.0.1:9"]\n' >/etc/listener/conf.d/store.toml
apt install /srv/old.deb || fail "apt with a store that is down: $(cat /tmp/apt.log)"
active && enabled || fail "not up: $(systemctl status listener)"
listener status | has 'store unreachable' || fail "no condition: $(listener status)"
echo 'bad' >/etc/listener/conf.d/store.toml
apt install --reinstall /srv/old.deb || fail "apt with bad settings: $(cat /tmp/apt.log)"
[[ $(systemctl is-active listener) == activating ]] || fail "given up"
rm /etc/listener/conf.d/store.toml
apt purge listener || fail "purge: $(cat /tmp/apt.log)"
[[ ! -e /etc/listener && ! -e /var/lib/listener && ! -e /run/listener ]] || fail "purge left $(ls -d /etc/listener /var/lib/listener /run/listener)"

say "a fresh installation is enabled and up, and runs nothing"
apt install /srv/old.deb || fail "apt: $(cat /tmp/apt.log)"
active && enabled || fail "not up: $(systemctl status listener)"
[[ $(listener runs) == "no runs yet" ]] || fail "it ran something: $(listener runs)"
listener put A_KEY value >/dev/null || fail "no value can be put"
getent group listener >/dev/null || fail "no group"

say "a command in the settings: it runs once"
command_file
settings <<'TOML'
[provision]
command = ["/usr/local/bin/prov"]
[throttle]
settle = "50ms"
min_interval = "0s"
TOML
listener reload >/dev/null || fail "reload"
systemctl restart listener
wait_for "the first run" has_run 1
settled
expect_runs 1 "the first run"
