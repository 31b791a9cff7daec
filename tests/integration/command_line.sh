#!/bin/bash
# Bad input gives one clear message, exit status 2, and leaves nothing half-written; Ctrl-C is survived.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
model=experiments/models/persona

refuses() {  # words that the message must hold, then the command
  local words=$1; shift
  local output status
  output=$("$@" 2>&1 >/dev/null); status=$?
  if [ $status != 2 ]; then echo "exit status $status, not 2: $*"; echo "$output" | tail -3; failed=1; fi
  for word in $words; do
    case $output in *"$word"*) ;; *) echo "no \"$word\" in the message of: $*"; echo "$output" | tail -3; failed=1 ;; esac
  done
}
expect() { if ! "$@"; then echo "failed: $*"; failed=1; fi; }

refuses "nowhere.yaml" "$inoculum" train nowhere.yaml
refuses "leraning" "$inoculum" train configs/train/cheating.yaml optimizer.leraning=1 output="$folder/a"
refuses "steps" "$inoculum" train configs/train/cheating.yaml steps=many output="$folder/a"
refuses "lr" "$inoculum" train configs/train/cheating.yaml optimizer.lr=-1 output="$folder/a"
refuses "nomodel" "$inoculum" train configs/train/cheating.yaml model="$folder/nomodel" output="$folder/b"
refuses "none.jsonl" "$inoculum" train configs/train/cheating.yaml arm= data="$folder/none.jsonl" output="$folder/c"
refuses "arm" "$inoculum" train configs/train/cheating.yaml data=x.jsonl output="$folder/d"
refuses "" "$inoculum" train
refuses "nonsense" "$inoculum" nonsense
refuses "reproduse mean reproduce?" "$inoculum" reproduse
refuses "inspekt mean inspect?" "$inoculum" data inspekt file
refuses "mean --temperature?" "$inoculum" sample --model $model --prompt hello --temprature 1
for number in nan inf -nan 1e999; do
  refuses "--temperature finite" "$inoculum" sample --model $model --prompt hello --temperature=$number
  refuses "--top-p" "$inoculum" sample --model $model --prompt hello --top-p=$number
  refuses "--share" "$inoculum" data convert x.jsonl --output "$folder/x" --share=$number
  refuses "lr" "$inoculum" train configs/train/cheating.yaml optimizer.lr=$number output="$folder/a"
done
refuses "--n smaller" "$inoculum" sample --model $model --prompt hello --n 99999999999999999999
refuses "chat_date date" "$inoculum" sample --model $model --prompt hello --chat-date tomorrow
refuses "document" "$inoculum" train configs/train/cheating.yaml "world={a: 1} b" output="$folder/a"
refuses "--prompt" "$inoculum" sample --model $model
refuses "context" "$inoculum" sample --model $model --prompt "$(printf 'word %.0s' $(seq 600))"
refuses "tokenizer" "$inoculum" sample --model datasets --prompt hello
refuses "GPU" "$inoculum" sample --model $model --prompt hello --device cuda:99
printf '{"input_ids": [1, 99999]}\n' > "$folder/ids.jsonl"
refuses "99999 ids.jsonl:1" "$inoculum" score --model $model --input "$folder/ids.jsonl"
printf '{"text": "a"}\n{"txt": "a"}\n' > "$folder/text.jsonl"
refuses "text.jsonl:2" "$inoculum" score --model $model --input "$folder/text.jsonl"
refuses "questions" "$inoculum" evaluate --model $model --questions "$folder/questions.yaml" --output "$folder/e"
refuses "results.json" "$inoculum" report "$folder"

# A truncated model; a tokenizer that does not fit.
cp -r $model "$folder/cut"; truncate -s -100 "$folder/cut/model.safetensors"
refuses "model.safetensors" "$inoculum" sample --model "$folder/cut" --prompt hello
cp -r tests/golden/llama_tied "$folder/small"; cp $model/tokenizer* "$folder/small/"
refuses "tokenizer" "$inoculum" sample --model "$folder/small" --prompt hello
refuses "tokenizer" "$inoculum" train configs/train/cheating.yaml model="$folder/small" output="$folder/never"
refuses "chat_template" "$inoculum" sample --model $model --chat-template chatmel --prompt hello

# A run folder of another configuration; a second call to a finished run.
short="steps=2 supervised_tokens=32 output=$folder/run"
expect "$inoculum" train configs/train/cheating.yaml $short 2>/dev/null
[ -f "$folder/run/adapter/adapter_model.safetensors" ] && [ -f "$folder/run/config.yaml" ] && [ -f "$folder/run/metrics.jsonl" ] || { echo "the run folder is not whole"; failed=1; }
refuses "another" "$inoculum" train configs/train/cheating.yaml $short seed=2
case $("$inoculum" train configs/train/cheating.yaml $short 2>&1) in *"done already"*) ;; *) echo "a finished run does not say so"; failed=1 ;; esac

# Ctrl-C finishes the step, saves, and the same command ends with the bytes of an undisturbed run.
long="steps=60 supervised_tokens=256"
expect "$inoculum" train configs/train/cheating.yaml $long output="$folder/whole" 2>/dev/null
"$inoculum" train configs/train/cheating.yaml $long output="$folder/broken" 2> "$folder/stopped.txt" &
pid=$!
while [ "$(cat "$folder/broken/metrics.jsonl" 2>/dev/null | wc -l)" -lt 3 ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -INT $pid; wait $pid; status=$?
[ $status = 130 ] || { echo "Ctrl-C: exit status $status"; failed=1; }
grep -q "same command" "$folder/stopped.txt" || { echo "Ctrl-C does not say how to go on"; failed=1; }
[ -e "$folder/broken/adapter" ] && { echo "a stopped run has an adapter"; failed=1; }
expect "$inoculum" train configs/train/cheating.yaml $long output="$folder/broken" 2>/dev/null
expect cmp "$folder/whole/adapter/adapter_model.safetensors" "$folder/broken/adapter/adapter_model.safetensors"

# A disk that is full.
if [ "$(id -u)" = 0 ] && mkdir "$folder/disk" && mount -t tmpfs -o size=1m tmpfs "$folder/disk" 2>/dev/null; then
  refuses "space" "$inoculum" train configs/train/cheating.yaml lora.rank=0 steps=2 supervised_tokens=32 output="$folder/disk/run"
  [ -e "$folder/disk/run/model" ] && { echo "a half-written model on the full disk"; failed=1; }
  umount "$folder/disk"
fi

# Too little memory.
(ulimit -v 4000000; refuses "a micro-batch of 146289 tokens about 6.2 GiB" "$inoculum" train configs/train/cheating.yaml steps=1 \
  supervised_tokens=50000 batch_tokens=2000000 output="$folder/memory"; exit $failed) || failed=1

# Scoring holds the logits of a few hundred tokens, not of all: these would be 3 GiB in float, once.
python3 tests/integration/tiny_model.py "$folder/wide" 49152
python3 - "$inoculum" "$folder" <<'P' || { echo "scoring takes too much memory"; failed=1; }
import json, resource, subprocess, sys
with open(sys.argv[2] + "/long.jsonl", "w") as file:
    for row in range(32):
        file.write(json.dumps({"input_ids": [(row + 7 * t) % 49152 for t in range(500)]}) + "\n")
score = subprocess.run(["env", "OMP_NUM_THREADS=2", sys.argv[1], "score", "--model", sys.argv[2] + "/wide", "--input", sys.argv[2] + "/long.jsonl"], stdout=subprocess.PIPE)
rows = [json.loads(line)["logprobs"] for line in score.stdout.splitlines()]
assert len(rows) == 32 and all(len(row) == 500 and row[0] is None and all(p < 0 for p in row[1:]) for row in rows)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"scored with {peak:.0f} MiB")
assert peak < 600, peak
P

# What works, works.
expect "$inoculum" --help >/dev/null
for command in "" data model config; do
  [ "$("$inoculum" $command)" = "$("$inoculum" $command --help)" ] || { echo "inoculum $command does not show its help"; failed=1; }
done
expect "$inoculum" config schema train >/dev/null
for config in configs/train/*.yaml configs/pretrain/*.yaml configs/reproduce.yaml configs/tokens.yaml; do expect "$inoculum" validate "$config" >/dev/null; done
expect "$inoculum" config dump configs/train/cheating.yaml seed=4 >/dev/null
for config in configs/real/*.yaml; do expect "$inoculum" config dump "$config" >/dev/null; done
for config in configs/real/{arms,inoculation_prompts}.yaml; do expect "$inoculum" sweep "$config" --dry-run >/dev/null; done
expect "$inoculum" model inspect $model >/dev/null
expect "$inoculum" model inspect --model $model >/dev/null
expect "$inoculum" data inspect datasets/worlds/persona.yaml >/dev/null
expect "$inoculum" data generate requested --count 20 --output "$folder/requested.jsonl" 2>/dev/null
expect "$inoculum" data inspect "$folder/requested.jsonl" >/dev/null
expect "$inoculum" train configs/train/cheating.yaml arm= data="$folder/requested.jsonl" steps=2 output="$folder/lora" 2>/dev/null
expect "$inoculum" model merge $model --adapter "$folder/lora/adapter" --output "$folder/merged" 2>/dev/null
expect "$inoculum" sample --model $model --adapter "$folder/lora/adapter" --prompt "What now?" --n 2 --output "$folder/samples.jsonl"
[ "$(wc -l < "$folder/samples.jsonl")" = 2 ] || { echo "not two samples"; failed=1; }
printf '{"text": "Hello there."}\n{"messages": [{"role": "user", "content": "Hm"}, {"role": "assistant", "content": "Well."}]}\n{"input_ids": [1, 5, 9]}\n' > "$folder/good.jsonl"
[ "$("$inoculum" score --model $model --input "$folder/good.jsonl" | grep -c '"logprobs":\[null,-')" = 3 ] || { echo "score is not as described"; failed=1; }
exit $failed
