# After the machine went down; the agent does not start.
export ETCDCTL_API=3
systemctl is-active -q listener && fail "the agent runs"
say "… the agent withdrew its entries before"
wait_for "etcd" systemctl is-active -q etcd
got=$(etcdctl --user root:root get --prefix /listener/v1/default/provides/ --print-value-only)
[[ $got == *'"state":"left"'* ]] || fail "the entry: $got; $(journalctl -q -b -1 -u listener -n 20)"
