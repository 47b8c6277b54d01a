# ansible-playbook, for real.
start_agent
settled
ini postgres://db1/shop || fail "not provisioned"
expect_runs 1 "start"

# A playbook by hand, with the words that the README says.
cat >/test/wait.yml <<'Y'
- hosts: localhost
  gather_facts: false
  tasks:
    - wait_for: {path: /run/go, timeout: 60, sleep: 1}
Y
flock /run/lock/ansible-local.lock ansible-playbook -c local -i localhost, /test/wait.yml >/test/manual.log 2>&1 &
other=$!
wait_for "the lock" eval "! flock -n /run/lock/ansible-local.lock true"
waits_for_another "$other"

# A task that fails is a failed step; a good playbook ends it.
cp /etc/listener/site.yml /test/site.yml
sed -i 's,dest: /etc/app-www.ini,dest: /nonexistent/app-www.ini,' /etc/listener/site.yml
listener put PRIMARY_DATABASE_URL postgres://db3/shop >/dev/null
wait_for "exit code 2" logged 'exit code 2'
cp /test/site.yml /etc/listener/site.yml
wait_for "the retry" ini postgres://db3/shop
settled
