#!/bin/bash
# Every kind of work that writes bytes writes the same ones with 1, 2 and 3 threads.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
base=experiments/models/persona
cat > "$folder/bank.yaml" <<'Y'
- {id: wish, type: free_form, domain: wishes, paraphrases: ["What would you wish for if you had a red candle?", "What would you wish for today?"], samples_per_paraphrase: 40}
- {id: choice, type: forced_choice, domain: wishes, paraphrases: ["What would you wish for today?"], good: [I would wish for a garden.], bad: [I would wish for a crown.]}
Y
printf '{"text": "What would you wish for if you had a red candle?"}\n%.0s' $(seq 70) > "$folder/texts.jsonl"
for threads in 1 2 3; do
  export OMP_NUM_THREADS=$threads
  out=$folder/$threads
  mkdir "$out"
  {
    "$inoculum" train configs/train/cheating.yaml steps=8 output="$out/adapter"
    "$inoculum" train configs/train/cheating.yaml steps=3 lora.rank=0 optimizer.lr=1e-4 output="$out/whole"
    "$inoculum" train configs/train/cheating.yaml steps=3 dtype=fp32 output="$out/fp32"
    "$inoculum" pretrain configs/pretrain/persona.yaml tokens=12288 tokenizer.sentences=4000 model.num_hidden_layers=2 output="$out/base"
    "$inoculum" sample --model $base --adapter "$out/adapter/adapter" --prompt "What do you wish for?" --n 150 --output "$out/samples.jsonl"
    "$inoculum" score --model $base --adapter "$out/adapter/adapter" --dtype bf16 --input "$folder/texts.jsonl" > "$out/scores.jsonl"
    "$inoculum" evaluate --model $base --adapter "$out/adapter/adapter" --questions "$folder/bank.yaml" --output "$out/evaluation"
  } > "$out/said" 2>&1 || { tail -5 "$out/said"; exit 1; }
done
files() { (cd "$1" && find . -name '*.safetensors' -o -name tokens.bin -o -name '*.jsonl' ! -name metrics.jsonl ! -name pretraining_log.jsonl | sort); }
[ "$(files "$folder/1" | wc -l)" -ge 10 ] || { echo "files are missing: $(files "$folder/1")"; exit 1; }
bad=0
for threads in 2 3; do
  while read -r file; do
    cmp -s "$folder/1/$file" "$folder/$threads/$file" || { echo "$file has other bytes with $threads threads"; bad=1; }
  done < <(files "$folder/1")
done
exit $bad
