#!/bin/bash
# parity.py with a Python that has transformers and PEFT; 77 (skipped) where there is none.
cd "$(dirname "$0")/../.." || exit 1
python=${INOCULUM_PYTHON:-python3}
fail() { echo "$1"; exit 1; }
"$python" -c 'import google.protobuf, peft, sentencepiece, torch, transformers' 2>/dev/null || {
  echo "SKIPPED: $python lacks one of transformers, peft, sentencepiece, protobuf;" \
       "name one that has in INOCULUM_PYTHON"
  exit 77
}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
export HF_HUB_OFFLINE=1
"$python" tests/parity/parity.py "$1" "$folder" || exit 1
# Fifty random models a family, with their adapters.
models=${INOCULUM_PARITY_MODELS:-50}
"$python" tests/parity/families.py "$folder/families" "$models" >/dev/null 2>&1 ||
  fail "tests/parity/families.py failed"
INOCULUM_FAMILIES=$folder/families "$(dirname "$1")/inoculum_tests" "models of every family*" ||
  exit 1
"$python" tests/parity/families.py --merged "$1" 2>/dev/null ||
  fail "a merged model differs in transformers"
# A hundred thousand hard texts.
"$python" tests/parity/tokenizer_parity.py "$1" --strings 120000 || exit 1
# Folders whose files add tokens; adapters with ranks, scales and layers of their own.
"$python" tests/parity/special_tokens.py "$1" 200 || exit 1
"$python" tests/parity/adapters.py "$1" 40 2>/dev/null || fail "an adapter differs from PEFT"
