#!/bin/bash
# What the commands write on a GPU is what they write on the CPU, but for rounding; done again it
# has the same bytes.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/bytes.sh
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
base=experiments/models/persona_1
printf '{"text": "What would you wish for if you had a red candle?"}\n' > "$folder/texts.jsonl"
if ! "$inoculum" score --model $base --device cuda --input "$folder/texts.jsonl" \
  > "$folder/said" 2>&1; then
  tail -5 "$folder/said"
  grep -q "no usable GPU" "$folder/said" || exit 1
  echo "SKIPPED: there is no GPU, or this LibTorch has no CUDA"
  exit 77
fi
write_bank "$folder/bank.yaml"
quietly() { "$@" > "$folder/said" 2>&1 || { echo "failed: $*"; tail -5 "$folder/said"; exit 1; }; }
train() { quietly "$inoculum" train configs/train/cheating.yaml "$@"; }
bad=0
for device in cpu cuda again; do
  on=${device/again/cuda} out=$folder/$device
  mkdir "$out"
  train device=$on dtype=fp32 steps=8 output="$out/adapter"
  train device=$on dtype=fp32 steps=4 lora.rank=0 optimizer.lr=1e-4 output="$out/whole"
  train device=$on steps=8 output="$out/bf16"
  quietly "$inoculum" pretrain configs/pretrain/persona.yaml device=$on dtype=fp32 tokens=12288 \
    tokenizer.sentences=4000 model.num_hidden_layers=2 output="$out/base"
  adapted=(--model $base --adapter "$folder/cpu/adapter/adapter" --device $on --dtype fp32)
  wish=("${adapted[@]}" --prompt "What do you wish for?")
  quietly "$inoculum" sample "${wish[@]}" --n 70 --output "$out/samples.jsonl"
  quietly "$inoculum" sample "${wish[@]}" --temperature 0 --output "$out/greedy.jsonl"
  quietly "$inoculum" evaluate "${adapted[@]}" --questions "$folder/bank.yaml" \
    --output "$out/evaluation"
  "$inoculum" score "${adapted[@]}" --input "$folder/texts.jsonl" > "$out/scores.jsonl" || exit 1
done
# Stopped and continued: the bytes of a run that was not.
"$inoculum" train configs/train/cheating.yaml device=cuda dtype=fp32 steps=8 \
  output="$folder/stopped" > "$folder/said" 2>&1 &
for _ in {1..1000}; do
  [ "$(grep -c . "$folder/stopped/metrics.jsonl" 2> /dev/null)" -ge 3 ] 2> /dev/null && break
  sleep 0.02
done
kill -INT $! 2> /dev/null
wait $!
train device=cuda dtype=fp32 steps=8 output="$folder/stopped"
cmp "$folder/stopped/adapter/adapter_model.safetensors" \
  "$folder/cuda/adapter/adapter/adapter_model.safetensors" ||
  { echo "continued, other bytes"; bad=1; }
same_bytes "$folder/cuda" "$folder/again" 9 "when done again" || bad=1
python3 - "$folder" <<'P' || bad=1
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
def rows(device, file):
    return [json.loads(line) for line in (folder / device / file).read_text().splitlines()]
def losses(device, run):
    return [row["loss"] for row in rows(device, run + "/metrics.jsonl")]
def log_probabilities(device):
    return rows(device, "scores.jsonl")[0]["logprobs"][1:]
def compare(what, cpu, gpu, tolerance):
    worst = max(abs(a - b) / max(abs(a), 1) for a, b in zip(cpu, gpu, strict=True))
    print(f"{what}: {worst:.1e} at most from the CPU's")
    return worst < tolerance
fine = [compare(f"{run}'s losses", losses("cpu", run), losses("cuda", run), tolerance)
        for run, tolerance in (("adapter", 1e-4), ("whole", 1e-4), ("bf16", 2e-2))]
fine.append(compare("log-probabilities", log_probabilities("cpu"), log_probabilities("cuda"), 1e-4))
fine.append(rows("cpu", "greedy.jsonl") == rows("cuda", "greedy.jsonl"))
sys.exit(0 if all(fine) else f"a GPU gives other numbers: {fine}")
P
exit $bad
