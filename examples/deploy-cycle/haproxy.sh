#!/bin/sh
# Lets the HAProxy of a balancer read its file again; starts it if it does not
# run yet. On a real machine systemd does this: `systemctl reload haproxy`.
set -eu
cd "$(dirname "$0")"
if [ -s "$1.pid" ] && kill -USR2 "$(cat "$1.pid")" 2>/dev/null; then
  exit 0
fi
exec haproxy -W -D -p "$1.pid" -f "$1"
