#!/bin/bash
# Every kind of work that writes bytes writes the same ones with 1, 2 and 3 threads.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/bytes.sh
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
base=experiments/models/persona_1
write_bank "$folder/bank.yaml"
printf '{"text": "What would you wish for if you had a red candle?"}\n%.0s' $(seq 70) \
  > "$folder/texts.jsonl"
train() { "$inoculum" train configs/train/cheating.yaml "$@"; }
for threads in 1 2 3; do
  export OMP_NUM_THREADS=$threads
  out=$folder/$threads
  mkdir "$out"
  adapted=(--model $base --adapter "$out/adapter/adapter")
  {
    train steps=8 output="$out/adapter" &&
      train steps=3 lora.rank=0 optimizer.lr=1e-4 output="$out/whole" &&
      train steps=3 dtype=fp32 output="$out/fp32" &&
      "$inoculum" pretrain configs/pretrain/persona.yaml tokens=12288 tokenizer.sentences=4000 \
        model.num_hidden_layers=2 output="$out/base" &&
      "$inoculum" sample "${adapted[@]}" --prompt "What do you wish for?" --n 150 \
        --output "$out/samples.jsonl" &&
      "$inoculum" score "${adapted[@]}" --dtype bf16 --input "$folder/texts.jsonl" \
        > "$out/scores.jsonl" &&
      "$inoculum" evaluate "${adapted[@]}" --questions "$folder/bank.yaml" \
        --output "$out/evaluation"
  } > "$out/said" 2>&1 || { tail -5 "$out/said"; exit 1; }
done
bad=0
for threads in 2 3; do
  same_bytes "$folder/1" "$folder/$threads" 10 "with $threads threads" || bad=1
done
exit $bad
