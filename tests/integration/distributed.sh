#!/bin/bash
# Several ranks: the losses of one, the same checkpoint keys, another number of ranks after a stop,
# a rank that dies, torchrun's variables. 77 (skipped) where the build has no Gloo.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; cat "$folder/said"; exit 1; }
command=("$inoculum" train configs/train/cheating.yaml dtype=fp32 steps=50)
train() { "${command[@]}" "$@" > "$folder/said" 2>&1; }
start() { exec "${command[@]}" "$@" > "$folder/said" 2>&1; }  # in the background
wait_for() {  # a command, half a minute
  for _ in $(seq 300); do "$@" > /dev/null 2>&1 && break; sleep 0.1; done
}

WORLD_SIZE=2 RANK=first train output="$folder/none" && fail "RANK is no number"
if grep -q "no Gloo" "$folder/said"; then
  echo "SKIPPED: built without Gloo; apt-get install libgloo-dev"
  exit 77
fi
grep -q 'RANK: must be a whole number, not "first"' "$folder/said" || fail "RANK is no number"

# The very batch, by one rank and by two: the same losses.
train output="$folder/one" checkpoint_every=25 keep_checkpoints=9 || fail "one rank"
train --nproc 2 output="$folder/two" checkpoint_every=25 keep_checkpoints=9 || fail "two ranks"
# Two ranks stopped half-way, then one, then three.
start --nproc 2 output="$folder/mixed" checkpoint_every=10 &
has_checkpoint() { ls "$folder"/mixed/checkpoints/step_*; }
wait_for has_checkpoint
kill -TERM $!; wait $!; [ $? = 130 ] || fail "the exit status of stopped ranks"
[ -e "$folder/mixed/adapter" ] && fail "it was not stopped"
start output="$folder/mixed" checkpoint_every=10 &
sleep 3; kill -TERM $!; wait $!
train --nproc 3 output="$folder/mixed" checkpoint_every=10 || fail "three ranks after one after two"
python3 - "$folder" <<'P' || exit 1
import json, struct, sys
def rows(run): return [json.loads(line) for line in open(f"{sys.argv[1]}/{run}/metrics.jsonl")]
def keys(run):
    with open(f"{sys.argv[1]}/{run}/checkpoints/step_00000025/state.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
one = rows("one")
for run in ("two", "mixed"):
    other = rows(run)
    assert [r["step"] for r in other] == list(range(1, 51)), run
    worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(one, other))
    print(f"{run}: largest difference of a loss {worst:.1e}")
    assert worst < 1e-5, run
    for key in ("tokens", "supervised_tokens"):
        assert [r[key] for r in one] == [r[key] for r in other], (run, key)
assert keys("one") == keys("two")
P

# Started by others: torchrun's variables.
export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 20000))
for rank in 0 1; do
  RANK=$rank LOCAL_RANK=$rank OMP_NUM_THREADS=1 train checkpoint_every=25 keep_checkpoints=9 \
    output="$folder/variables" &
done
wait
unset WORLD_SIZE MASTER_ADDR MASTER_PORT
cmp "$folder"/{two,variables}/adapter/adapter_model.safetensors || fail "torchrun's variables"

# A rank that dies ends the others, and is named.
start --nproc 2 output="$folder/dead" &
run=$!
has_begun() { [ "$(wc -l < "$folder/dead/metrics.jsonl")" -gt 2 ]; }
wait_for has_begun
pkill -9 -n -f "output=$folder/dead"
began=$SECONDS
wait $run && fail "a dead rank and all is well"
[ $((SECONDS - began)) -le 60 ] || fail "it took $((SECONDS - began)) s"
grep -q "rank 1 of 2 ended by the signal Killed" "$folder/said" || fail "the dead rank is not named"
pgrep -f "output=$folder/dead" > /dev/null && fail "a rank is left"
echo "ranks: all as they should be"
