#!/bin/bash
# Sweeps on this machine: what is run, what is not run again, what is said of failures, and that
# stops, cancels and kills lose nothing.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; umount "$folder/disk" 2>/dev/null; rm -rf "$folder"' EXIT
. tests/integration/sweeps.sh

small=$folder/small.yaml
cat > "$small" <<Y
base: $PWD/configs/train/cheating.yaml
seeds: 2
grid:
  optimizer.lr: [1e-3, 3e-3]
  lora.rank: [1, 2]
  steps: [3]
  supervised_tokens: [64]
  checkpoint_every: [1]
exclude: [{lora.rank: 2, optimizer.lr: 1e-3}]
derive: {lora.alpha: 8 * lora.rank}
metric: {name: loss, goal: min}
Y

# The plan.
ok sweep "$small" output="$folder/s" --dry-run
says "6 cells, 1152 tokens"
[ ! -e "$folder/s" ] || fail "a dry run writes"

# The run, and that a second one runs nothing.
s=$folder/s
ok sweep "$small" output="$s"
says "6 cells, 6 done"
counts='import json, sys; assert json.load(sys.stdin)["counts"] == {"done": 6}'
"$inoculum" sweep status --json "$s" | python3 -c "$counts" || fail "--json"
[ "$(wc -l < "$s/sweep.csv")" = 7 ] || fail "sweep.csv"
grep -q '"dots"' "$s/curve.json" || fail "no curve.json"
grep -q '<svg' "$s/report.html" || fail "no chart in report.html"
grep -qE '(src|href)="?https?:' "$s/report.html" && fail "report.html is not self-contained"
grep -q '<svg' "$s"/cells/*rank=2*/report.html || fail "a run's own report"
grep -q "alpha: 16" "$s"/cells/*rank=2*/config.yaml || fail "derive"
ls "$s"/cells/*/events.out.tfevents.* > /dev/null || fail "no events of runs"
ls "$s"/cells/*/result/events.out.tfevents.* > /dev/null || fail "no events of results"
results() { (cd "$1" && sha256sum cells/*/result.json); }
results "$s" > "$folder/first"
ok sweep "$small" output="$s"
results "$s" | cmp - "$folder/first" || fail "a cell was run again"
# A changed cell is run, the others are not.
sed 's/3e-3\]/3e-3, 5e-3]/' "$small" > "$folder/larger.yaml"
ok sweep "$folder/larger.yaml" output="$s"
says "10 cells, 10 done"
(cd "$s" && sha256sum --quiet -c "$folder/first") || fail "an old cell was run again"

# A cell that fails: the others go on, status tells why, resume tries it alone again.
sed 's/1e-3, 3e-3/1e30, 3e-3/; s/^exclude.*//; s/seeds: 2/seeds: 1/' "$small" > "$folder/bad.yaml"
sweep "$folder/bad.yaml" output="$folder/b"
[ $? = 1 ] || fail "the exit status of a sweep with failures"
says "2 done, 2 failed"; says "the loss or its gradient is not finite"
ok sweep status "$folder/b"
says "not finite"
results "$folder/b" > "$folder/first"
sweep resume "$folder/b"; [ $? = 1 ] || fail "resume"
results "$folder/b" | cmp - "$folder/first" || fail "resume ran a finished cell"

# A judge over the network, stopped before it has judged all: the cell is not done, and goes on from
# there.
cat > "$folder/bank.yaml" <<Y
- id: a
  paraphrases: ["Well?"]
  samples_per_paraphrase: 2
  judge_prompts: {aligned: "{answer}", coherent: "{question} {answer}"}
Y
python3 - "$folder" <<'P' &
import http.server, json, os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
class Judge(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        stops = (folder / "pid").exists()
        if stops:
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        body = json.dumps({"choices": [{"message": {"content": "85"}}]}).encode()
        self.send_response(503 if stops else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
(folder / "port.new").write_text(str(server.server_port))
(folder / "port.new").rename(folder / "port")
server.serve_forever()
P
server=$!
while [ ! -e "$folder/port" ]; do sleep 0.1; done
cat > "$folder/judged.yaml" <<Y
base: $PWD/configs/train/cheating.yaml
grid: {steps: [1], supervised_tokens: [64]}
questions: $folder/bank.yaml
evaluation:
  sampling: {max_new_tokens: 4}
  judge:
    kind: api
    api: {base_url: "http://127.0.0.1:$(cat "$folder/port")", model: m, key_variable: ""}
metric: {name: aligned, goal: max}
Y
"$inoculum" sweep "$folder/judged.yaml" output="$folder/j" > "$folder/said" 2>&1 &
echo $! > "$folder/pid.new"; mv "$folder/pid.new" "$folder/pid"
wait "$(cat "$folder/pid")"
[ $? = 130 ] || { cat "$folder/said"; fail "the exit status of a sweep whose judge was stopped"; }
rm "$folder/pid"
ls "$folder"/j/cells/*/result.json 2>/dev/null &&
  fail "a cell with answers that were not judged is done"
sweep resume "$folder/j" || { cat "$folder/said" "$folder"/j/logs/*; fail "judging again"; }
says "1 done"; says "85"
kill $server
# One that can't be asked: the cell has failed, and `evaluate` says so by its exit status.
sweep "$folder/judged.yaml" output="$folder/k" evaluation.judge.api.max_retries=0
[ $? = 1 ] || fail "the exit status of a sweep whose judge is gone"
says "1 failed"; says "2 of 2 answers could not be judged"
ls "$folder"/k/cells/*/result.json 2>/dev/null && fail "a cell that was not judged is done"
sed -n '/^  judge/,/^metric/s/^  //p' "$folder/judged.yaml" > "$folder/judge.yaml"
"$inoculum" evaluate --model experiments/models/persona_1 --questions "$folder/bank.yaml" \
  --config "$folder/judge.yaml" judge.api.max_retries=0 --output "$folder/unjudged" --json \
  > "$folder/said" 2>&1
[ $? = 1 ] || { cat "$folder/said"; fail "the exit status where no answer was judged"; }

# Two at once; cancel; resume; the same bytes as undisturbed.
sed 's/\[3\]/[40]/; s/seeds: 2/seeds: 1/' "$small" > "$folder/long.yaml"
"$inoculum" sweep "$folder/long.yaml" output="$folder/l" > "$folder/background" 2>&1 &
undone=$!
begun "$folder/l/cells/*/checkpoints/step_*"
sweep "$folder/long.yaml" output="$folder/l"; [ $? = 2 ] || fail "two sweeps on one folder"
says "another \`inoculum sweep\` is at work there"
sweep status "$folder/l"; says "running"
ok sweep cancel "$folder/l"
wait $undone
[ $? = 130 ] || { cat "$folder/background"; fail "the exit status of a cancelled sweep"; }
sweep status "$folder/l"; grep -q failed "$folder/said" && fail "a cancelled cell is no failed one"
ok sweep resume "$folder/l"
says "3 done"
ok sweep "$folder/long.yaml" output="$folder/undisturbed"
same_weights "$folder/l" "$folder/undisturbed" "cancelled and resumed"

# Killed at random times, twenty times: it goes on from the last checkpoint, to the same bytes.
RANDOM=7
kills=0
while [ $kills -lt 20 ]; do
  "$inoculum" sweep "$folder/long.yaml" output="$folder/killed" > "$folder/said" 2>&1 &
  # A busy machine may take longer to start a cell than to kill it.
  until pgrep -f "sweep cell $folder/killed" > /dev/null || ! kill -0 %% 2> /dev/null; do
    sleep 0.1
  done
  sleep "0.$((RANDOM % 6))"
  pkill -9 -f "sweep cell $folder/killed" && kills=$((kills + 1))
  kill -9 %% 2> /dev/null; wait %% 2> /dev/null
  pkill -9 -f "sweep cell $folder/killed"
  sweep status "$folder/killed"; grep -q "3 done" "$folder/said" && rm -rf "$folder/killed"
done
ok sweep "$folder/long.yaml" output="$folder/killed"
same_weights "$folder/killed" "$folder/undisturbed" "killed and resumed"

# Successive halving: two workers, killed once; the best third goes on, the others stop early; a
# cell that ran to its end has the bytes of one that was never paused.
write_asha
"$inoculum" sweep "$folder/asha.yaml" output="$folder/a" > "$folder/background" 2>&1 &
sleep 1.5; pkill -9 -f "sweep work $folder/a"; wait %%
sweep resume "$folder/a" || { cat "$folder/said" "$folder"/a/logs/*; fail "halving"; }
check_asha "$folder/a"
whole=$(dirname "$(ls "$folder"/a/cells/*/result.json | head -1)")
lr=$(basename "$whole" | sed 's/lr=\([^,]*\),.*/\1/')
"$inoculum" train "$folder/asha_base.yaml" optimizer.lr="$lr" output="$folder/whole" \
  > /dev/null 2>&1 || fail "the whole run"
cmp {"$whole","$folder/whole"}/adapter/adapter_model.safetensors || fail "paused: other bytes"

# A cell that failed is tried again; a metric that no cell has is told, and its hint.
for cell in "$folder"/a/cells/*; do
  [ -e "$cell/result.json" ] || early=$cell
done
echo '{"error": "no memory"}' > "$early/failed.json"
sweep status "$folder/a"; says "no memory"
ok sweep resume "$folder/a"
[ ! -e "$early/failed.json" ] || fail "halving does not try a failed cell again"
sweep "$folder/asha.yaml" output="$folder/m" metric.name=los && fail "no metric and all is well"
says "did you mean \"loss\"?"

# Clocks that jump: what is done is told from files that are there, and not from their times.
results "$s" > "$folder/first"
find "$s" -exec touch -d 2038-01-01 {} +
ok sweep "$folder/larger.yaml" output="$s"
results "$s" | cmp - "$folder/first" || fail "a jump of the clock and a cell was run again"
says "10 cells, 10 done"
ok sweep "$folder/larger.yaml" output="$s" metric.name=los
says "no cell has \"los\": did you mean \"loss\"?"
ok sweep "$folder/larger.yaml" output="$s"

# Cells of two ranks; not where they make no sense.
WORLD_SIZE=2 "$inoculum" train configs/train/cheating.yaml output="$folder/none" \
  > "$folder/said" 2>&1
if ! grep -q "no Gloo" "$folder/said"; then
  ok sweep "$small" output="$folder/r" seeds=1 launcher.tasks_per_node=2
  says "3 cells, 3 done"
  sweep "$folder/asha.yaml" output="$folder/e" launcher.tasks_per_node=2 && fail "asha with ranks"
  says "can't be more than 1 with asha"
fi

# A full disk: the cells say so, and go on when there is space again. One that can't be written:
# nothing begins.
disk=$folder/disk
if [ "$(id -u)" = 0 ] && mkdir "$disk" &&
  mount -t tmpfs -o size=300k tmpfs "$disk" 2> /dev/null; then
  sweep "$small" output="$disk/s" && fail "a full disk and all is well"
  says "No space left on device"
  mount -o remount,size=64m "$disk" || fail "remount"
  ok sweep "$small" output="$disk/s"
  says "6 cells, 6 done"
  mount -o remount,ro "$disk"
  sweep "$folder/larger.yaml" output="$disk/s"; [ $? = 2 ] || fail "a read-only disk"
  says "Read-only file system"
  mount -o remount,rw "$disk"; umount "$disk"
fi

# Bad input: file, line, field and a hint, and nothing is written.
bad() {  # what it says, and the sweep
  local said=$1
  sweep "${@:2}"; [ $? = 2 ] || { cat "$folder/said"; fail "no error: ${*:2}"; }
  says "$said"
}
bad_file() {  # what it says, and how sed makes the file
  sed "$2; s/^exclude.*//" "$small" > "$folder/e.yaml"
  bad "$1" "$folder/e.yaml" output="$folder/e"
}
bad_file "e.yaml:4: optimiser: unknown key" 's/optimizer.lr: \[/optimiser.lr: [/'
bad_file "e.yaml:4: grid.optimizer.lr: is empty" 's/1e-3, 3e-3\]/]/'
bad_file "e.yaml:4: optimizer.lr: must be a number" 's/1e-3, 3e-3/fast/'
bad_file "steps can't be a parameter too" 's/^metric.*/asha: {min_steps: 1}/'
bad "add --yes" "$small" output="$folder/e" seeds=1000000
bad "holds no sweep" status "$folder"
[ ! -e "$folder/e" ] || fail "a refused sweep wrote something"
echo "sweeps: all as they should be"
