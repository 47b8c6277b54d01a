# chef-solo's protocol, with a stand-in: Debian has no chef.
mkdir -p /etc/chef
cp -r /etc/listener/solo.rb /etc/listener/cookbooks /etc/chef/
install -m 755 /test/chef-solo /usr/local/bin/chef-solo
start_agent
settled
ini postgres://db1/shop || fail "not provisioned"
expect_runs 1 "start"
listener logs | has 'run_list: recipe\[app-www::default\]' || fail "the run list did not arrive: $(listener logs)"

# By hand, with -o, as an operator does.
CHEF_WAIT=/run/go chef-solo -c /etc/chef/solo.rb -o 'recipe[nothing]' >/test/manual.log 2>&1 &
other=$!
wait_for "chef's lock" eval "! flock -n /var/chef/cache/chef-client-running.pid true"
waits_for_another "$other"

# 35 and 37 are success; 213 is not, and the next run is chef's again.
for code in 35 37; do
  n=$(runs)
  echo $code >/test/chef-exit
  listener provision --wait >/dev/null || fail "$code is a failure"
  expect_runs $((n + 1)) "exit code $code"
done
n=$(runs)
echo 213 >/test/chef-exit
listener provision >/dev/null
wait_for "the run after chef has upgraded itself" eval "(( \$(runs) > $n + 1 ))"
settled
logged 'exit code 213' || fail "213 is not told: $(listener runs)"
expect_runs $((n + 2)) "exit code 213"

# An empty file, or a number of long ago in it, is no lock.
echo 1 >/var/chef/cache/chef-client-running.pid
listener provision --wait >/dev/null || fail "a lock file that nobody holds keeps runs away"
