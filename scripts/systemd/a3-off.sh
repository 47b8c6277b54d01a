# After a machine went down in the middle of a run.
say "the run that was cut off is lost, and made again"
rm -f /etc/prov.mode
touch /run/prov.go # if it came first: it waits as before
wait_for "the agent is up" active
settled
expect_runs $(($(cat /root/ran) + 1)) "reboot during a run"
listener runs | has LOST || fail "the run that was cut off is not recorded: $(listener runs)"

say "off …"
listener off -m "test" >/dev/null
ran >/root/ran
