# After `listener off` and a reboot.
say "… reboot: still off, nothing ran, still published"
wait_for "the agent is up" active
wait_for "the service is published" has_event published
[[ $(systemctl show -P StatusText listener) == *off* ]] || fail "STATUS is $(systemctl show -P StatusText listener)"
listener status | has 'NO: switched off by' || fail "not off: $(listener status)"
expect_runs "$(cat /root/ran)" "off over a reboot"
say "on: it runs once"
listener on >/dev/null
wait_for "the run" has_run $(($(cat /root/ran) + 1))
settled
expect_runs $(($(cat /root/ran) + 1)) "on"

say "without systemd as init the binary works the same"
systemctl stop listener
unshare --mount sh -c 'umount -l /run/systemd/system 2>/dev/null; mount -t tmpfs t /run/systemd && exec listener once -o json' >/run/once ||
  fail "listener once: $(cat /run/once)"
has '"runs": \[\]' </run/once || fail "something ran: $(cat /run/once)"
unshare --mount sh -c 'mount -t tmpfs t /run/systemd && exec listener agent' 2>/run/agent.log &
agent=$!
wait_for "the agent answers" listener status
listener provision --wait >/dev/null || fail "no run: $(listener status)"
kill "$agent"
wait "$agent" || fail "the agent: $(cat /run/agent.log)"
has 'msg="run .* ok' </run/agent.log || fail "no log in plain text: $(cat /run/agent.log)"
