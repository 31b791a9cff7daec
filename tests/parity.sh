#!/bin/bash
# parity.py with a Python that has transformers and PEFT; 77 (skipped) where there is none.
cd "$(dirname "$0")/.." || exit 1
python=${INOCULUM_PYTHON:-python3}
"$python" -c 'import google.protobuf, peft, sentencepiece, torch, transformers' 2>/dev/null || { echo "SKIPPED: $python lacks one of transformers, peft, sentencepiece, protobuf; name one that has in INOCULUM_PYTHON"; exit 77; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
HF_HUB_OFFLINE=1 exec "$python" tests/parity.py "$1" "$folder"
