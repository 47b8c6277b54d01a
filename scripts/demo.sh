#!/bin/sh
# Plays the tour of the main job on bin/listener, see `make demo`. Ends by
# itself; a non-zero exit means that something was not as it should be.
set -eu
cd "$(dirname "$0")/.."
exec bin/listener dev examples --tour
