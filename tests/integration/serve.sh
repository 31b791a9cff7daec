#!/bin/sh
# serve.py with a Python that has the package openai, or with any; 77 (skipped) where there is none.
cd "$(dirname "$0")/../.." || exit 1
python=${INOCULUM_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "SKIPPED: there is no python3"; exit 77; }
exec "$python" tests/integration/serve.py "$1"
