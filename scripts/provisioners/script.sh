# The plain script.
start_agent
settled
ini postgres://db1/shop || fail "not provisioned"
expect_runs 1 "start"
listener put PRIMARY_DATABASE_URL postgres://db2/shop >/dev/null
wait_for "the new value" ini postgres://db2/shop
settled
expect_runs 2 "a change"

# The same script by hand, slowed down by a lock that is already there.
flock /run/lock/provision.lock bash -c 'while [[ ! -e /run/go ]]; do sleep 0.05; done; exec /etc/listener/provision' &
other=$!
wait_for "the lock" eval "! flock -n /run/lock/provision.lock true"
waits_for_another "$other"
