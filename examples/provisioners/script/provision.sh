#!/bin/sh
# Writes the shop's configuration from its environment. Any exit code but 0 is a
# failure: the run is tried again. So it may be run twice with the same values,
# and the second time changes nothing.
set -eu

# What the agent wrote last: a run by hand has it too. The values are quoted.
. /etc/services.d/shop.conf

umask 027
mkdir -p /etc/shop
conf=/etc/shop/shop.conf
new=$(mktemp "$conf.XXXXXX")
trap 'rm -f "$new"' EXIT
printf 'DATABASE_URL=%s\nPORT=%s\n' "$DATABASE_URL" "$PORT" >"$new"
chmod 0640 "$new"
if cmp -s "$new" "$conf"; then
	echo "shop: nothing to do"
else
	mv "$new" "$conf"
	echo "shop: changed because of ${LISTENER_CHANGED_KEYS:-a run by hand}"
	# systemctl reload shop
fi
