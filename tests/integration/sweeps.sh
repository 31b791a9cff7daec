# Sourced by the tests of sweeps, once `inoculum` and `folder` are set: runs a sweep, and tells what
# it said and made.
fail() { echo "FAILED: $*"; exit 1; }
sweep() { "$inoculum" sweep "$@" > "$folder/said" 2>&1; }
says() { grep -qF -- "$1" "$folder/said" || { cat "$folder/said"; fail "it does not say: $1"; }; }
ok() { "$@" || { cat "$folder/said"; fail "$*"; }; }
weights() { (cd "$1/cells" && sha256sum */adapter/adapter_model.safetensors); }
same_weights() {  # SWEEP OTHER WORDS
  cmp <(weights "$1") <(weights "$2") || fail "$3: other bytes"
}
begun() {  # CHECKPOINTS…: waits until one is there
  for _ in $(seq 600); do compgen -G "$1" > /dev/null && return; sleep 0.1; done
  fail "it never begins"
}
# Successive halving of nine cells, of which three at most run to their end.
write_asha() {
  cat > "$folder/asha.yaml" <<Y
base: $folder/asha_base.yaml
grid: {optimizer.lr: [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 1e-30, 1e-20, 1e-10]}
asha: {min_steps: 3, reduction: 3}
metric: {name: loss, goal: min}
Y
  cat > "$folder/asha_base.yaml" <<Y
base: $PWD/configs/train/cheating.yaml
steps: 27
supervised_tokens: 64
checkpoint_every: 1
Y
}
check_asha() {  # SWEEP
  says "stopped early"; says " done"
  [ "$(ls "$1"/asha/0_0/*.json | wc -l)" = 9 ] || fail "a cell was left out"
  local finished
  finished=$(ls "$1"/cells/*/result.json | wc -l)
  [ "$finished" -ge 1 ] && [ "$finished" -le 3 ] || fail "$finished cells ran to their end"
}
