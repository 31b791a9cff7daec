#!/bin/bash
# An installed program finds its data from any folder, says its version and commit, and needs
# nothing of the sources that it was built from.
inoculum=$1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; cat "$folder/said"; exit 1; }
quietly() { "$@" > "$folder/said" 2>&1; }
quietly cmake --install "$(dirname "$inoculum")" --prefix "$folder/prefix" || fail "cmake --install"
find "$folder/prefix" -name '*.cpp' -o -name '*.h' > "$folder/said"
[ ! -s "$folder/said" ] || fail "sources are installed"
mkdir "$folder/elsewhere" && cd "$folder/elsewhere" || exit 1
for program in "$folder/prefix/bin/inoculum" "$inoculum"; do
  quietly "$program" --version || fail "--version"
  grep -qE '^[0-9]+\.[0-9]+\.[0-9]+( \([0-9a-f]{10}(-changed)?\))?$' "$folder/said" ||
    fail "the version's form"
  quietly "$program" validate configs/train/cheating.yaml || fail "validate"
  quietly "$program" train configs/train/cheating.yaml steps=1 output=run || fail "train"
  # A run's settings are the same wherever it is started from.
  model=experiments/models/persona_1
  grep -q "^model: $model$" run/config.yaml || { cp run/config.yaml "$folder/said"; fail "config"; }
  quietly "$program" sample --model $model --adapter run/adapter --prompt Hi || fail "sample"
  rm -r run
done
# What is here comes first.
mkdir -p configs/train && echo 'nonsense: 1' > configs/train/cheating.yaml
quietly "$inoculum" validate configs/train/cheating.yaml &&
  fail "a file of this folder is passed over"
INOCULUM_DATA=$folder/none quietly "$inoculum" validate configs/train/requested.yaml &&
  fail "INOCULUM_DATA"
grep -q "configs/train/requested.yaml" "$folder/said" || fail "the missing file is not named"
echo "as it should be"
