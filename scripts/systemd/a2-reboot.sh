# The same node after a reboot.
say "reboot: it ran once more"
wait_for "the agent is up" active
settled
expect_runs $(($(cat /root/ran) + 1)) "reboot"
listener runs show latest | has 'first start after boot' || fail "for another reason: $(listener runs show latest)"
systemctl restart listener
settled
expect_runs $(($(cat /root/ran) + 1)) "a restart after the reboot"

say "a machine that goes down during a run: the run is cut off, and made after the boot"
ran >/root/ran
echo wait >/etc/prov.mode
listener provision >/dev/null
wait_for "the command runs" test -e /run/prov.started
