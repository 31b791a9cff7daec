#!/bin/sh
# api.py where there is a Python; 77 (skipped) where there is none.
cd "$(dirname "$0")/../.." || exit 1
command -v python3 >/dev/null || { echo "SKIPPED: there is no python3"; exit 77; }
exec python3 tests/integration/api.py "$1"
