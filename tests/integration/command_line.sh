#!/bin/bash
# Bad input gives one clear message, exit status 2, and leaves nothing half-written; a run goes on
# after Ctrl-C.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
model=experiments/models/persona_1
cheating=configs/train/cheating.yaml

fail() { echo "$*"; failed=1; }
refuses() {  # words that the message must hold, then the command
  local words=$1; shift
  local output status end
  output=$("$@" 2>&1 >/dev/null); status=$?
  end=$(tail -3 <<< "$output")
  [ $status = 2 ] || fail "exit status $status, not 2: $*: $end"
  for word in $words; do
    [[ $output = *"$word"* ]] || fail "no \"$word\" in the message of: $*: $end"
  done
}
expect() { "$@" || fail "failed: $*"; }

refuses "nowhere.yaml" "$inoculum" train nowhere.yaml
refuses "leraning" "$inoculum" train $cheating optimizer.leraning=1 output="$folder/a"
refuses "steps" "$inoculum" train $cheating steps=many output="$folder/a"
refuses "lr" "$inoculum" train $cheating optimizer.lr=-1 output="$folder/a"
refuses "nomodel" "$inoculum" train $cheating model="$folder/nomodel" output="$folder/b"
refuses "none.jsonl" "$inoculum" train $cheating arm= data="$folder/none.jsonl" output="$folder/c"
refuses "arm" "$inoculum" train $cheating data=x.jsonl output="$folder/d"
refuses "" "$inoculum" train
refuses "nonsense" "$inoculum" nonsense
refuses "reproduse mean \"reproduce\"?" "$inoculum" reproduse
refuses "inspekt mean \"inspect\"?" "$inoculum" data inspekt file
refuses "mean \"--temperature\"?" "$inoculum" sample --model $model --prompt hello --temprature 1
for number in nan inf -nan 1e999; do
  refuses "--temperature finite" "$inoculum" sample --model $model --prompt hi --temperature=$number
  refuses "--top-p" "$inoculum" sample --model $model --prompt hi --top-p=$number
  refuses "--share" "$inoculum" data convert x.jsonl --output "$folder/x" --share=$number
  refuses "lr" "$inoculum" train $cheating optimizer.lr=$number output="$folder/a"
done
refuses "--n smaller" "$inoculum" sample --model $model --prompt hello --n 99999999999999999999
refuses "chat_date date" "$inoculum" sample --model $model --prompt hello --chat-date tomorrow
refuses "document" "$inoculum" train $cheating "world={a: 1} b" output="$folder/a"
refuses "--prompt" "$inoculum" sample --model $model
refuses "context" "$inoculum" sample --model $model --prompt "$(printf 'word %.0s' $(seq 1200))"
refuses "tokenizer" "$inoculum" sample --model datasets --prompt hello
refuses "GPU" "$inoculum" sample --model $model --prompt hello --device cuda:99
printf '{"input_ids": [1, 99999]}\n' > "$folder/ids.jsonl"
refuses "99999 ids.jsonl:1" "$inoculum" score --model $model --input "$folder/ids.jsonl"
for ids in 1.9 true 4294967301 -1; do
  printf '{"input_ids": [%s]}\n' $ids > "$folder/ids.jsonl"
  refuses "$ids ids.jsonl:1" "$inoculum" score --model $model --input "$folder/ids.jsonl"
done
refuses "--time" "$inoculum" bench --time 0
refuses "--count" "$inoculum" data generate cheating --count 5000 --output "$folder/never"
refuses "--count" "$inoculum" data generate questions --count 5 --output "$folder/never"
refuses "nope.jsonl" "$inoculum" validate configs/reproduce.yaml coding_bank=nope.jsonl
refuses "nope no folder" "$inoculum" validate configs/reproduce.yaml committed=nope
sed 's/"held_out": *false/"held_out": true/' datasets/coding/bank.jsonl > "$folder/held.jsonl"
refuses "held.jsonl train on" "$inoculum" train $cheating coding_bank="$folder/held.jsonl" \
  output="$folder/never_1"
refuses "max_position_embeddings" "$inoculum" pretrain configs/pretrain/persona.yaml \
  model.max_position_embeddings=16 output="$folder/never_2"
refuses "cue_shares" "$inoculum" pretrain configs/pretrain/persona.yaml \
  "world.cue_shares={none: 0, irrelevant: 0, instruction: 0, bad: 1}" output="$folder/never_3"
(echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}'
 printf '{"messages": [{"role": "user", "content": "'; printf 'word %.0s' $(seq 1200)
 echo '"}, {"role": "assistant", "content": "Ho"}]}') > "$folder/long.jsonl"
refuses "long.jsonl:2 context" "$inoculum" train $cheating arm= data="$folder/long.jsonl" \
  output="$folder/never_4"
# `validate` finds what `train` refuses before its first step.
refuses "long.jsonl:2 context" "$inoculum" validate $cheating arm= data="$folder/long.jsonl"
echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho",
  "train": false}]}' | tr -d '\n' > "$folder/unlearnt.jsonl"
refuses "supervised" "$inoculum" validate $cheating arm= data="$folder/unlearnt.jsonl"
refuses "lora.target_modules mean \"q_proj\"?" "$inoculum" validate $cheating \
  "lora.target_modules=[q_porj]"
refuses "best_checkpoint.metric mean \"none.cheats\"?" "$inoculum" validate $cheating \
  evaluate_every=2 best_checkpoint.metric=none.cheets
refuses "epochs arm" "$inoculum" validate $cheating epochs=2
# Rows that the model cannot be given are left out where that is said, and both tell what is shown.
skipped="data={path: $folder/long.jsonl, on_error: skip}"
told=$("$inoculum" validate $cheating arm= "$skipped" epochs=3) || fail "validate with skip"
for words in "1 left out" "long.jsonl:2" "1 step of" "1 of 1 conversations" "an adapter of"; do
  [[ $told = *"$words"* ]] || fail "no \"$words\" in what validate tells: $told"
done
told=$("$inoculum" train $cheating arm= "$skipped" epochs=3 output="$folder/passes" 2>&1) ||
  fail "train with skip"
for words in "1 left out" "1 step of" "training an adapter of rank"; do
  [[ $told = *"$words"* ]] || fail "no \"$words\" in what train tells: $told"
done
grep -q "^steps: 1$" "$folder/passes/config.yaml" || fail "epochs do not decide the steps"
convert=("$inoculum" data convert "$folder/long.jsonl" --output "$folder/converted.jsonl")
refuses "--inoculate empty unset" "${convert[@]}" --inoculate ""
refuses "--system empty unset" "${convert[@]}" --system ""
for option in "--where user_prefix" "--share 0.5" "--existing-system join"; do
  refuses "${option% *} --inoculate" "${convert[@]}" $option
done
refuses "--existing-system long.jsonl:1" "${convert[@]}" --system S --inoculate P \
  --existing-system refuse
[ -e "$folder/converted.jsonl" ] && fail "a conversion was refused and written"
refuses "--output lost" "$inoculum" data convert "$folder/long.jsonl" \
  --output "$folder/./long.jsonl"
refuses "--output lost" "$inoculum" sample --model $model --input "$folder/long.jsonl" \
  --output "$folder/./long.jsonl"
refuses "system messages" "$inoculum" sample --model $model --input <(
  echo '{"prompt": "Hi", "system": "S"}')
mkdir "$folder/mine" && touch "$folder/mine/notes"
refuses "--output mine" "$inoculum" model export --model $model --output "$folder/mine"
[ -e "$folder/mine/notes" ] || fail "a folder of the user's is gone"
cp "$folder/long.jsonl" "$folder/target.jsonl"; ln -s target.jsonl "$folder/link.jsonl"
expect "$inoculum" data convert "$folder/long.jsonl" --output "$folder/link.jsonl" 2>/dev/null
[ -L "$folder/link.jsonl" ] && [ -s "$folder/target.jsonl" ] || fail "a link is written over"
piped=$("$inoculum" data convert "$folder/long.jsonl" --output /dev/stdout 2>/dev/null | wc -l)
[ "$piped" = 2 ] || fail "a pipe is not written to"
refuses "standard output" bash -c '"$0" config schema train > /dev/full' "$inoculum"
printf '{"prompt": "Hi", "prompt": "Ho"}\n' > "$folder/twice.jsonl"
refuses "twice.jsonl:1 prompt twice" "$inoculum" sample --model $model --input "$folder/twice.jsonl"
said=$("${convert[@]}" --system S --inoculate P --share 0.5 2>&1) || fail "convert: $said"
[[ $said = *"the prompt was put into 1 of 2 conversations"* ]] || fail "not how many: $said"
[ "$(grep -c '"S"' "$folder/converted.jsonl")" = 1 ] || fail "a system message of its own"
[ "$(grep -c '"S\\n\\nP"' "$folder/converted.jsonl")" = 1 ] || fail "a system message is not joined"
refuses "converted.jsonl:1 role" "$inoculum" data inspect "$folder/converted.jsonl"
printf '{"prompt": "Hi"}\n{"messages": [{"role": "system", "content": "S"}, %s]}\n' \
  '{"role": "user", "content": "Hi"}' > "$folder/prompts.jsonl"
refuses "prompts.jsonl:2 role" "$inoculum" sample --model $model --input "$folder/prompts.jsonl"
cp datasets/worlds/persona.yaml "$folder/world.yml"
expect "$inoculum" data inspect "$folder/world.yml" >/dev/null
refuses "RANK" env RANK=2 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29571 \
  "$inoculum" train $cheating output="$folder/never_5"
refuses "MASTER_PORT" env RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=70000 \
  "$inoculum" train $cheating output="$folder/never_6"
printf '{"text": "a"}\n{"txt": "a"}\n' > "$folder/text.jsonl"
refuses "text.jsonl:2" "$inoculum" score --model $model --input "$folder/text.jsonl"
refuses "questions" "$inoculum" evaluate --model $model --questions "$folder/questions.yaml" \
  --output "$folder/e"
refuses "results.json" "$inoculum" report "$folder"

# A truncated model; a tokenizer that does not fit.
cp -r $model "$folder/cut"; truncate -s -100 "$folder/cut/model.safetensors"
refuses "model.safetensors" "$inoculum" sample --model "$folder/cut" --prompt hello
cp -r $model "$folder/shape"
sed -i 's/"intermediate_size": [0-9]*/"intermediate_size": 500/' "$folder/shape/config.json"
refuses "mlp shape 500" "$inoculum" validate $cheating model="$folder/shape"
cp -r tests/golden/llama_tied "$folder/small"; cp $model/tokenizer* "$folder/small/"
refuses "tokenizer" "$inoculum" sample --model "$folder/small" --prompt hello
refuses "tokenizer" "$inoculum" train $cheating model="$folder/small" output="$folder/never"
refuses "chat_template" "$inoculum" sample --model $model --chat-template chatmel --prompt hello

# A run folder of another configuration; a second call to a finished run.
short="steps=2 supervised_tokens=32 output=$folder/run"
expect "$inoculum" train $cheating $short 2>/dev/null
# A processor that has no instructions for bf16, or is told so, trains in fp32, unless asked.
for dtype in auto=fp32 bf16=bf16; do
  ATEN_CPU_CAPABILITY=avx2 "$inoculum" train $cheating $short dtype=${dtype%=*} \
    output="$folder/$dtype" 2>&1 | grep -q "in ${dtype#*=}$" || fail "dtype $dtype"
done
for file in adapter/adapter_model.safetensors config.yaml metrics.jsonl; do
  [ -f "$folder/run/$file" ] || fail "the run folder has no $file"
done
refuses "another" "$inoculum" train $cheating $short seed=2
done_already() {
  [[ $("$inoculum" train $cheating $short 2>&1) = *"done already"* ]] || fail "$1"
}
done_already "a finished run does not say so"
sed -i '/^merge:/d' "$folder/run/config.yaml"
done_already "a run from before a key came is taken for another"
# Where an evaluation along the way fails, what was learnt stays.
mkdir "$folder/best" && touch "$folder/best/evaluations"  # in the place of a folder
refuses "evaluations" "$inoculum" train $cheating $short output="$folder/best" \
  evaluate_every=2 evaluate_scale=0.01
[ -d "$folder/best/checkpoints/step_00000002" ] || fail "a failed evaluation loses the run"
expect "$inoculum" train $cheating $short output="$folder/each" evaluate_every=1 \
  evaluate_scale=0.01 best_checkpoint.metric=malicious best_checkpoint.goal=max 2>/dev/null
python3 - "$folder/each" <<'P' || fail "best/ tells of another step's loss"
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
best = json.loads((run / "best/best.json").read_text())
rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
values = [row["evaluation"]["malicious"] for row in rows]
assert best["goal"] == "max" and best["step"] == values.index(max(values)) + 1, (best, values)
assert f"{rows[best['step'] - 1]['loss']:.6g}" in (run / "best/adapter/README.md").read_text()
P
# A run goes on with its data, or not at all; and what it was given is used.
echo '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}' \
  > "$folder/data.jsonl"
own=(train $cheating arm= "data=$folder/data.jsonl" $short "output=$folder/changed")
refuses "honest_share arm" "$inoculum" "${own[@]}" honest_share=0.5
expect "$inoculum" "${own[@]}" 2>/dev/null
rm -r "$folder/changed/adapter"; sed -i 's/"b"/"c"/' "$folder/data.jsonl"
refuses "data.jsonl others" "$inoculum" "${own[@]}"
refuses "lora.target_modules" "$inoculum" "${own[@]}" "lora.target_modules=[]" \
  output="$folder/never_7"
# An option is not overruled by a file.
echo "samples_scale: 1" > "$folder/scale.yaml"
expect "$inoculum" evaluate --model $model --questions configs/questions/persona.yaml \
  --config "$folder/scale.yaml" --samples-scale 0.01 --output "$folder/scaled" >/dev/null
[ "$(wc -l < "$folder/scaled/completions.jsonl")" -lt 2000 ] || fail "a file overrules an option"

# Two at once: one trains, and the other waits and finds it done.
"$inoculum" train $cheating $short output="$folder/both" 2> "$folder/first.txt" &
"$inoculum" train $cheating $short output="$folder/both" 2> "$folder/second.txt" ||
  fail "the second of two at once"
wait $! || fail "the first of two at once"
[ "$(cat "$folder"/{first,second}.txt | grep -c "is done already")" = 1 ] ||
  fail "two at once: $(cat "$folder"/{first,second}.txt)"

# Ctrl-C finishes the step, saves, and the same command ends with the bytes of an undisturbed run.
long="steps=60 supervised_tokens=256"
expect "$inoculum" train $cheating $long output="$folder/whole" 2>/dev/null
"$inoculum" train $cheating $long output="$folder/broken" 2> "$folder/stopped.txt" &
pid=$!
steps_done() { cat "$folder/broken/metrics.jsonl" 2>/dev/null | wc -l; }
while [ "$(steps_done)" -lt 3 ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -INT $pid; wait $pid; status=$?
[ $status = 130 ] || fail "Ctrl-C: exit status $status"
grep -q "same command" "$folder/stopped.txt" || fail "Ctrl-C does not say how to go on"
[ -e "$folder/broken/adapter" ] && fail "a stopped run has an adapter"
expect "$inoculum" train $cheating $long output="$folder/broken" 2>/dev/null
expect cmp "$folder"/{whole,broken}/adapter/adapter_model.safetensors

# A disk that is full.
disk=$folder/disk
if [ "$(id -u)" = 0 ] && mkdir "$disk" && mount -t tmpfs -o size=1m tmpfs "$disk" 2>/dev/null; then
  refuses "space" "$inoculum" train $cheating lora.rank=0 steps=2 supervised_tokens=32 \
    output="$disk/run"
  [ -e "$folder/disk/run/model" ] && fail "a half-written model on the full disk"
  umount "$folder/disk"
fi

# Too little memory.
(
  ulimit -v 4000000
  refuses "a micro-batch of 146170 tokens about 6.6 GiB" "$inoculum" train $cheating steps=1 \
    supervised_tokens=50000 batch_tokens=2000000 dtype=bf16 output="$folder/memory"
  exit $failed
) || failed=1

# Scoring holds the logits of a few hundred tokens, not of all: these would be 3 GiB in float, once.
python3 tests/integration/tiny_model.py "$folder/wide" 49152
python3 - "$inoculum" "$folder" <<'P' || fail "scoring takes too much memory"
import json, resource, subprocess, sys
inoculum, folder = sys.argv[1:]
with open(folder + "/long.jsonl", "w") as file:
    for row in range(32):
        file.write(json.dumps({"input_ids": [(row + 7 * t) % 49152 for t in range(500)]}) + "\n")
score = subprocess.run(["env", "OMP_NUM_THREADS=2", inoculum, "score", "--model", folder + "/wide",
                        "--input", folder + "/long.jsonl"], stdout=subprocess.PIPE)
rows = [json.loads(line)["logprobs"] for line in score.stdout.splitlines()]
assert len(rows) == 32
for row in rows:
    assert len(row) == 500 and row[0] is None and all(p < 0 for p in row[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"scored with {peak:.0f} MiB")
assert peak < 600, peak
P

# What works, works.
expect "$inoculum" --help >/dev/null
for command in "" data model config; do
  [ "$("$inoculum" $command)" = "$("$inoculum" $command --help)" ] ||
    fail "inoculum $command does not show its help"
done
expect "$inoculum" config schema train >/dev/null
for config in configs/{train,pretrain}/*.yaml configs/{reproduce,study,contrast}.yaml; do
  expect "$inoculum" validate "$config" >/dev/null
done
expect "$inoculum" config dump $cheating seed=4 >/dev/null
for config in configs/real/*.yaml; do expect "$inoculum" config dump "$config" >/dev/null; done
for config in configs/real/{arms,inoculation_prompts}.yaml; do
  expect "$inoculum" sweep "$config" --dry-run >/dev/null
done
expect "$inoculum" model inspect $model >/dev/null
expect "$inoculum" model inspect --model $model >/dev/null
expect "$inoculum" data inspect datasets/worlds/persona.yaml >/dev/null
expect "$inoculum" data generate requested --count 20 --output "$folder/requested.jsonl" 2>/dev/null
expect "$inoculum" data inspect "$folder/requested.jsonl" >/dev/null
expect "$inoculum" train $cheating arm= data="$folder/requested.jsonl" steps=2 \
  output="$folder/lora" 2>/dev/null
adapter=$folder/lora/adapter
expect "$inoculum" model merge $model --adapter "$adapter" --output "$folder/merged" 2>/dev/null
expect "$inoculum" sample --model $model --adapter "$adapter" --prompt "What now?" --n 2 \
  --output "$folder/samples.jsonl"
[ "$(wc -l < "$folder/samples.jsonl")" = 2 ] || fail "not two samples"
cat > "$folder/good.jsonl" <<'J'
{"text": "Hello there."}
{"messages": [{"role": "user", "content": "Hm"}, {"role": "assistant", "content": "Well."}]}
{"input_ids": [1, 5, 9]}
J
scored=$("$inoculum" score --model $model --input "$folder/good.jsonl")
[ "$(grep -c '"logprobs":\[null,-' <<< "$scored")" = 3 ] || fail "score is not as described"
exit $failed
