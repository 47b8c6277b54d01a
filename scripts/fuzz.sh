#!/usr/bin/env bash
# Runs every fuzz target, one after the other, for FUZZTIME (10s) each.
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
for pkg in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
    echo "fuzz: $target in $pkg"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$pkg"
    found=$((found + 1))
  done
done
echo "fuzz: $found targets"
