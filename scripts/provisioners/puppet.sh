# puppet apply, for real.
state=/var/cache/puppet/state
rm -rf $state && mkdir -p $state
start_agent
settled
ini postgres://db1/shop || fail "not provisioned"
expect_runs 1 "start"
listener runs show latest | has '^result *ok' || fail "exit code 2 is no success: $(listener runs show latest)"
[[ $(stat -c %a /etc/app-www.ini) == 640 ]] || fail "mode $(stat -c %a /etc/app-www.ini)"
listener logs | has -i 'permission denied' && fail "$(listener logs)"

# A puppet by hand: its process id is in puppet's lock, and it is a puppet.
mkdir /test/manifests
cat >/test/manifests/wait.pp <<'P'
exec { 'wait': command => '/bin/bash -c "while [[ ! -e /run/go ]]; do sleep 0.05; done"', timeout => 60 }
P
sed 's,/etc/listener/manifests,/test/manifests,' /etc/listener/run-puppet >/test/run-puppet
sh /test/run-puppet >/test/manual.log 2>&1 &
other=$!
wait_for "puppet's lock" test -s $state/agent_catalog_run.lock
wait_for "puppet runs" eval "tr '\\0' ' ' <\"/proc/$other/cmdline\" | has 'puppet apply'"
waits_for_another "$other"

# Disabled: nothing is applied, and status says why; enabled: it is, by itself.
puppet agent --disable 'a look at the database' >/dev/null 2>&1
[[ -s $state/agent_disabled.lock ]] || fail "puppet agent --disable wrote no $state/agent_disabled.lock"
listener put PRIMARY_DATABASE_URL postgres://db3/shop >/dev/null
wait_for "exit code 75" logged 'exit code 75'
listener logs | has 'a look at the database' || fail "the reason is not told: $(listener logs)"
ini postgres://db9/shop || fail "applied although disabled"
puppet agent --enable >/dev/null 2>&1
wait_for "the run after it" ini postgres://db3/shop
settled

# A resource that fails is a failed step.
cp /etc/listener/manifests/site.pp /test/site.pp
echo "exec { '/bin/false': }" >>/etc/listener/manifests/site.pp
listener put PRIMARY_DATABASE_URL postgres://db4/shop >/dev/null
wait_for "exit code 4 or 6" logged 'exit code [46]'
cp /test/site.pp /etc/listener/manifests/site.pp
settled
