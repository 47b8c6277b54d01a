# A node of a fleet: its store is an etcd, here on the same machine.
settings <<'TOML'
[store]
kind = "etcd"
boot_wait = "500ms"
[store.etcd]
endpoints = ["http://127.0.0.1:2379"]
username = "node"
password_file = "$CREDENTIALS_DIRECTORY/listener.store-password"
[provision]
command = ["/usr/local/bin/prov"]
[throttle]
settle = "50ms"
min_interval = "0s"
burst = 0
[publish]
drain_wait = "200ms"
TOML
command_file
systemd-tmpfiles --create listener.conf
mkdir -p -m 700 /etc/credstore
echo sesame >/etc/credstore/listener.store-password
cat >/etc/systemd/system/etcd.service <<'UNIT'
[Service]
Type=notify
ExecStart=/usr/bin/etcd --data-dir /var/lib/etcd-test
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload

say "the store is down: the unit is active all the same, and the command ran with what is known"
systemctl enable -q --now listener || fail "the unit failed"
wait_for "the run" has_run 1
listener status | has 'store unreachable' || fail "no condition: $(listener status)"
systemctl restart listener
active || fail "the unit is $(systemctl is-active listener)"

say "the store comes: the password of the credential is taken, the service is published"
systemctl enable -q --now etcd
export ETCDCTL_API=3
etcdctl -w simple user add root:root >/dev/null
etcdctl user grant-role root root >/dev/null
etcdctl user add node:sesame >/dev/null
etcdctl role add node >/dev/null
etcdctl role grant-permission node --prefix=true readwrite /listener/v1/ >/dev/null
etcdctl user grant-role node node >/dev/null
etcdctl auth enable >/dev/null
entry() { etcdctl --user root:root get --prefix /listener/v1/default/provides/ "$@"; }
is() { [[ $(entry --print-value-only) == *'"state":"'"$1"'"'* ]]; }
wait_for "the entry" is up
settled
expect_runs 1 "the store came"

say "a restart leaves what is published alone"
revision() { entry -w json | grep -o '"mod_revision":[0-9]*'; }
before=$(revision)
systemctl restart listener
settled
[[ $(revision) == "$before" ]] || fail "the entry was written again: $before, $(revision)"
has_event withdrawn && fail "a restart withdrew"

say "the machine goes down …"
systemctl disable -q listener
