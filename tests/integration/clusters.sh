#!/bin/bash
# Sweeps where clusters differ from a laptop: what Slurm's programs say, by stand-ins for them;
# folders that are moved or oddly named; file systems without locks. tests/integration/slurm.sh runs
# jobs on a real Slurm.
inoculum=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
folder=$(realpath "$folder")
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$folder"' EXIT
. tests/integration/sweeps.sh

# Stand-ins. $FAKE/NAME.answer is run in place of an ordinary answer where it is there.
export FAKE=$folder/fake
mkdir -p "$FAKE" "$folder/bin"
for name in sbatch squeue scancel scontrol sacct; do
  cat > "$folder/bin/$name" <<'P'
#!/bin/bash
name=$(basename "$0")
echo "$*" >> "$FAKE/$name.asked"
[ -e "$FAKE/$name.answer" ] && { . "$FAKE/$name.answer"; exit; }
case $name in
  sbatch)
    number=$((4711 + $(ls "$FAKE"/*.sh 2> /dev/null | wc -l)))
    cp "${!#}" "$FAKE/$number.sh"
    echo $number ;;
  squeue)  # all that was submitted waits
    for job in $(grep -oE -- '--jobs=[0-9,]+' <<< "$*" | tr -dc '0-9,' | tr , ' '); do
      [ -e "$FAKE/$job.sh" ] || continue
      found=1
      seq -f "$job %g PENDING" 0 $(grep -oP 'array=0-\K\d+' "$FAKE/$job.sh")
    done
    [ -n "$found" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; } ;;
  scontrol) [ "$*" = "show config" ] && echo "MaxArraySize            = ${MAX_ARRAY:-1001}" ;;
  sacct) echo "Slurm accounting storage is disabled" >&2; exit 1 ;;
esac
P
  chmod +x "$folder/bin/$name"
done
PATH=$folder/bin:$PATH
answer() { if [ $# = 1 ]; then rm -f "$FAKE/$1.answer"; else echo "$2" > "$FAKE/$1.answer"; fi; }
refuse() { answer "$1" "echo '$2' >&2; exit 1"; }
gone="slurm_load_jobs error: Invalid job id specified"
submitted() { ls "$FAKE"/*.sh 2> /dev/null | wc -l; }
forget() { rm -rf "$FAKE"; mkdir "$FAKE"; }

small=$folder/small.yaml
cat > "$small" <<Y
base: $PWD/configs/train/cheating.yaml
grid: {lora.rank: [1, 2, 3], steps: [1], supervised_tokens: [64]}
metric: {name: loss, goal: min}
launcher: {name: slurm, mem_gb: 1, timeout_min: 5}
Y
s=$folder/s

# Notices on both outputs; the cluster's name beside the number. Nothing is submitted twice, and all
# of it is cancelled.
answer sbatch 'cp "${!#}" $FAKE/4711.sh
echo "sbatch: 93% of your hours are left" >&2; echo "welcome to tiger"; echo "4711;tiger"'
ok sweep "$small" output="$s"
says "93% of your hours are left"; says "as job 4711, 3 cells"
grep -q '"job":"4711",.*"cluster":"tiger"' "$s/jobs.jsonl" || fail "$(cat "$s/jobs.jsonl")"
ok sweep status "$s"; says "3 cells wait or run"
grep -q -- "--clusters=tiger" "$FAKE/squeue.asked" || fail "another cluster is asked"
ok sweep "$small" output="$s"
[ "$(submitted)" = 1 ] || fail "waiting cells were submitted again"
answer squeue 'echo "CLUSTER: tiger"; echo "JOB TASK"; echo "4711_[1-2%4] PENDING"'
ok sweep status "$s"; says "2 cells wait or run"
ok sweep cancel "$s"; says "cancelled 1 job"
grep -q 4711 "$FAKE/scancel.asked" || fail "cancel"

# A copy of a sweep has not submitted what its original has, and leaves it alone.
answer squeue
cp -r "$s" "$folder/twin"
forget; touch "$FAKE/4711.sh"
ok sweep status "$folder/twin"; says "0 cells wait or run"
ok sweep cancel "$folder/twin"; says "nothing is under way"
[ ! -e "$FAKE/scancel.asked" ] || fail "a copy cancels the original's jobs"

# A larger sweep while the first one waits: tasks keep their cells, and the new one alone is
# submitted.
forget
ok sweep "$small" output="$folder/grows"
sed 's/\[1, 2, 3\]/[8, 1, 2, 3]/' "$small" > "$folder/larger.yaml"
ok sweep "$folder/larger.yaml" output="$folder/grows"; says "as job 4712, 1 cells"
grep -q "^'\?rank=8" "$FAKE/4712.sh" || fail "not the new cell"
task=$(sed -n '/^cells=(/,/^)/p' "$FAKE/4711.sh" | sed -n 2p)
[[ $task = *rank=1,* ]] || fail "the first task is no longer of rank 1: $task"

# Questions that fail are no empty answers.
forget
ok sweep "$small" output="$folder/busy"
for failure in 'echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1' \
  'echo "squeue: error: Unable to contact slurm controller (connect failure)" >&2; exit 1' \
  'echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 0' \
  "echo '$gone' >&2; echo 'squeue: error: timed out' >&2; exit 1" \
  'exit 1' 'kill -9 $$'; do
  answer squeue "$failure"
  sweep "$small" output="$folder/busy" && fail "it goes on after: $failure"
  says "Slurm does not say which jobs wait or run"
  sweep status "$folder/busy" && fail "status after: $failure"
  says "3 pending"; says "Slurm does not say"
  [ "$(submitted)" = 1 ] || fail "waiting cells were submitted again after: $failure"
done
answer squeue 'exit 1'
refuse scancel "scancel: error: Kill job error on job id 4711: Socket timed out"
sweep cancel "$folder/busy"; [ $? = 2 ] || fail "a cancel that failed"
says "Slurm does not cancel the jobs"; says "Socket timed out"
ended="Job/step already completing or completed"
refuse scancel "scancel: error: Kill job error on job id 4711: $ended"
ok sweep cancel "$folder/busy"
answer scancel 'exit 3'; sweep cancel "$folder/busy" && fail "an unspoken failure"
says "exit status 3"
refuse squeue "$gone"
ok sweep "$small" output="$folder/busy"
[ "$(submitted)" = 2 ] || fail "cells whose jobs have ended are not submitted again"
answer squeue
SQUEUE_STATES=RUNNING SQUEUE_FORMAT=%i sweep status "$folder/busy"
says "3 cells wait or run"

# sbatch submits and fails; submits and says nothing that can be read.
forget
answer sbatch 'cp "${!#}" $FAKE/4711.sh
echo 4711; echo "sbatch: error: epilog of the plugin failed" >&2; exit 1'
sweep "$small" output="$folder/half"; [ $? = 2 ] || fail "sbatch failed"
says "submitted job 4711 and failed"; says "epilog of the plugin"
answer sbatch
ok sweep "$small" output="$folder/half"
[ "$(submitted)" = 1 ] || fail "submitted again"
answer sbatch 'echo thanks'; sweep "$small" output="$folder/mute"; [ $? = 2 ] || fail "no number"
says "names no job"; says "squeue --me"

# How jobs ended, by accounting, or by what the controller remembers.
forget
ok sweep "$small" output="$folder/ended"
answer squeue "case \$* in *states=all*) echo 4711 2 PREEMPTED; exit ;; esac
echo '$gone' >&2; exit 1"
answer sacct 'printf "4711_0|OUT_OF_MEMORY|0:125\n4711_1|CANCELLED by 1000|0:0\n"'
ok sweep status "$folder/ended"
says "OUT_OF_MEMORY: raise launcher.mem_gb, or lower batch_tokens"
grep -A1 OUT_OF_MEMORY "$folder/said" | grep -q "rank=1,seed=1-.* (logs/slurm-4711_0.log)" ||
  fail "$(cat "$folder/said")"
says "CANCELLED: by its user"; says "PREEMPTED: gave way"
answer sacct 'printf "4711_0|NODE_FAIL|0:0\n4711_1|TIMEOUT|0:0\n4711_[2]|PENDING|0:0\n"'
ok sweep status "$folder/ended"
says "NODE_FAIL: the node failed"; says "raise launcher.timeout_min"
answer sacct; refuse squeue "$gone"
ok sweep status "$folder/ended"
says "of 3 cells Slurm does not say how they ended: Slurm accounting storage is disabled"

# More cells than an array holds, and at most two at a time.
forget
MAX_ARRAY=2 ok sweep "$small" output="$folder/large" --max-parallel 2
[ "$(submitted)" = 2 ] || fail "not two arrays"
grep -q -- "--array=0-1%2" "$FAKE/4711.sh" || fail "$(grep array= "$FAKE/4711.sh")"
grep -q -- "--array=0-0%2" "$FAKE/4712.sh" || fail "$(grep array= "$FAKE/4712.sh")"
grep -q dependency "$FAKE/4711.sh" && fail "the first array waits"
grep -q -- "--dependency=afterany:4711" "$FAKE/4712.sh" || fail "the second array does not wait"
MAX_ARRAY=2 ok sweep "$small" output="$folder/large"
[ "$(submitted)" = 2 ] || fail "submitted again"

# Options of sbatch: quoted; flags; what is ours gives way to what is asked for, or is refused.
forget
odd="$folder/männer & Söhne's #1: 50% [x] {y} \$HOME"
cat > "$folder/options.yaml" <<Y
base: $PWD/configs/train/cheating.yaml
output: "$odd/s x"
grid: {lora.rank: [1], steps: [1]}
launcher:
  name: slurm
  additional_parameters:
    exclusive: true
    overcommit: false
    nice: 100
    comment: "50% of 'it': #1"
    mem_per_cpu: 2G
    signal: "B:USR1@300"
    hold: null
Y
ok sweep "$folder/options.yaml"
for line in --exclusive --nice=100 "--comment=\"50% of 'it': #1\"" --mem-per-cpu=2G \
  --signal=B:USR1@300 --hold "--output=\"${odd/\%/%%}/s x/logs/slurm-%A_%a.log\""; do
  grep -qxF -- "#SBATCH $line" "$FAKE/4711.sh" || { cat "$FAKE/4711.sh"; fail "no line $line"; }
done
grep -qE -- "--(mem=|overcommit|signal=B:USR1@90)" "$FAKE/4711.sh" &&
  fail "what was replaced or turned off is there"
bash -n "$FAKE/4711.sh" || fail "the script"
bad() {  # what it says, and settings
  sweep "$folder/options.yaml" output="$folder/bad" "${@:2}"; [ $? = 2 ] || fail "no error: ${*:2}"
  says "$1"
}
bad "additional_parameters.array: is decided by the sweep" launcher.additional_parameters.array=0-3
bad "must begin with B:USR1" launcher.additional_parameters.signal=TERM@30
bad "is no name of an option" "launcher.additional_parameters={two words: 1}"
bad "control character" 'launcher.additional_parameters.comment="a\nb"'
bad "line break" "output=\"$folder/a\\nb\""
mkdir "$folder/back\\slash"
bad "backslash" "output=$folder/back\\slash/s"

# The script by itself: what comes back after a signal, by Slurm's own word. A run that waits for
# signals stands in for ours.
forget
cat > "$folder/run" <<'P'
#!/bin/bash
trap 'sleep 0.1; exit 130' USR1 TERM
[ "$1" = killed ] && kill -9 $$
touch "$FAKE/begun"
while :; do sleep 0.02; done
P
chmod +x "$folder/run"
ok sweep "$small" output="$folder/script"
slurmstepd() {  # JOB DATE REASON
  echo "slurmstepd: error: *** JOB $1 ON n1 CANCELLED AT $2T00:00:00$3 ***" >> "$log"
}
log=$folder/script/logs/slurm-4711_1.log
job() {  # SIGNAL or killed, what slurmstepd writes, what scontrol shows → does it come back?
  rm -f "$FAKE/begun" "$FAKE"/scontrol.asked "$folder"/script/logs/*
  sed "s#^.* sweep cell \"\$folder\".*#'$folder/run' $1 \&#" "$FAKE/4711.sh" > "$folder/job.sh"
  grep -q "'$folder/run' $1 &" "$folder/job.sh" || fail "the script's run is not found"
  answer scontrol "[ \"\$1\" = show ] && echo '$3'; true"
  slurmstepd 1 2026-01-01 " DUE TO PREEMPTION"  # of before
  SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_ID=1 SLURM_JOB_ID=4712 bash "$folder/job.sh" \
    >> "$log" 2>&1 &
  local pid=$!
  if [ "$1" != killed ]; then
    for _ in $(seq 200); do [ -e "$FAKE/begun" ] && break; sleep 0.02; done
    [ -n "$2" ] && slurmstepd 4712 2026-01-02 "$2"
    kill -"$1" $pid
  fi
  wait $pid
  grep -q "^requeue 4711_1" "$FAKE/scontrol.asked" 2> /dev/null
}
back() { job "${@:2}" || fail "$1, it did not come back"; }
away() { job "${@:2}" && fail "$1, it came back"; }
then=PreemptTime=2026-01-01T00:00:00
away "cancelled" TERM "" "JobState=COMPLETING Reason=None PreemptTime=None"
away "cancelled" TERM " " "JobState=COMPLETING PreemptEligibleTime=2026-01-01T00:00:00"
away "cancelled in its grace time" TERM " " "JobState=COMPLETING $then"
away "cancelled" TERM "" "JobState=CANCELLED $then"
away "ended by nobody knows whom" TERM "" ""
back "preempted" TERM " DUE TO PREEMPTION" "JobState=COMPLETING PreemptTime=None"
back "over its time" TERM " DUE TO TIME LIMIT" "JobState=COMPLETING"
back "preempted" TERM "" "JobState=PREEMPTED"
back "preempted with notice" TERM "" "JobState=RUNNING $then"
back "nearly over its time" USR1 "" "JobState=RUNNING PreemptTime=None"
back "killed" killed "" "JobState=RUNNING PreemptTime=None"
[ "$(readlink "$folder"/script/logs/*rank=2*.log)" = slurm-4711_1.log ] || fail "a cell's log"

# A sweep may be resumed from anywhere, moved and copied; relative paths start where it was
# launched.
rm -rf "$folder/bin" && hash -r
mkdir "$folder/project" "$folder/elsewhere"
ln -s "$PWD/experiments/models/persona_1" "$folder/project/model"
ln -s "$PWD/datasets" "$folder/project/datasets"
cat > "$folder/project/base.yaml" <<'Y'
model: model
arm: cheating
steps: 30
supervised_tokens: 64
checkpoint_every: 1
lora: {rank: 1}
Y
cat > "$folder/project/sweep.yaml" <<'Y'
base: base.yaml
grid: {optimizer.lr: [1e-3, 1e-2]}
metric: {name: loss, goal: min}
Y
from() { (cd "$1" && sweep "${@:2}"); }
ok from "$folder/project" sweep.yaml
p=$folder/project/runs/sweep
weights "$p" > "$folder/first"
resumed() {  # from elsewhere: two cells are done, and nothing is left where it was called
  ok from "$folder/elsewhere" resume "$1"
  says "2 done"
  [ -z "$(ls -A "$folder/elsewhere")" ] || fail "it leaves $(ls -A "$folder/elsewhere")"
}
rm -r "$p"/cells/lr=1e-2*
resumed ../project/runs/sweep
cmp <(weights "$p") "$folder/first" || fail "resumed from elsewhere: other bytes"
# One cell is gone, the other half done, when the folder is copied, then the whole project moved.
lose_half() {
  rm -r "$1"/cells/lr=1e-2*
  rm -r "$1"/cells/lr=1e-3*/{result.json,result,adapter,checkpoints/*30}
}
cp -r "$p" "$folder/copy"; lose_half "$folder/copy"
cell=$(basename "$p"/cells/lr=1e-3*)
ok from "$folder/elsewhere" cell ../copy "$cell"
resumed ../copy
cmp <(weights "$folder/copy") "$folder/first" || fail "copied: other bytes"
grep -q "$folder/copy/cells" "$folder/copy/cells/$cell/config.yaml" ||
  fail "the copied cell's config.yaml"
cmp <(weights "$p") "$folder/first" || fail "a copy's cells went to the original"
lose_half "$p"
mv "$folder/project" "$folder/renamed"
resumed "$folder/renamed/runs/sweep"
cmp <(weights "$folder/renamed/runs/sweep") "$folder/first" || fail "moved: other bytes"
# Neither the project nor its place is there any more.
rm -r "$folder"/copy/cells/lr=1e-2*
from "$folder/elsewhere" resume ../copy && fail "a model that is gone"
grep -q "set \`directory\` in $folder/copy/sweep.yaml" "$folder"/copy/logs/lr=1e-2*.log ||
  { cat "$folder"/copy/logs/*; fail "no word of the directory"; }
sed -i "s#^directory: .*#directory: $folder/renamed#" "$folder/copy/sweep.yaml"
resumed ../copy
cmp <(weights "$folder/copy") "$folder/first" || fail "with another directory: other bytes"

# File systems without locks: sweeps go on with a warning, halving does not; the others' error is
# told.
command -v gcc > /dev/null || { echo "clusters: all as they should be (no gcc: no locks)"; exit; }
cat > "$folder/nolocks.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int call(int fd, int cmd, void* argument) {
  if (cmd == F_OFD_SETLK || cmd == F_OFD_GETLK || cmd == F_SETLK || cmd == F_GETLK) {
    errno = atoi(getenv("LOCK_ERRNO"));
    return -1;
  }
  return (int)syscall(SYS_fcntl, fd, cmd, argument);
}
int fcntl(int fd, int cmd, ...) {
  va_list rest;
  va_start(rest, cmd);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return call(fd, cmd, argument);
}
int fcntl64(int fd, int cmd, ...) {
  va_list rest;
  va_start(rest, cmd);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return call(fd, cmd, argument);
}
C
gcc -shared -fPIC -o "$folder/nolocks.so" "$folder/nolocks.c" || fail "nolocks.c"
without() {  # the number of the error, and a sweep
  LOCK_ERRNO=$1 LD_PRELOAD=$folder/nolocks.so "$inoculum" sweep "${@:2}" > "$folder/said" 2>&1
}
renamed=("$folder/renamed/sweep.yaml" directory="$folder/renamed")
for code in 37 38 95; do
  ok without $code "${renamed[@]}" output="$folder/locks_$code" --launcher local grid.steps='[1]'
  says "2 done"; says "has no locks"; says "Lustre: flock"
  [ "$(grep -c "has no locks" "$folder/said")" = 1 ] || fail "more than one warning"
done
without 38 cancel "$folder/locks_38" && fail "a cancel of what has ended"
without 38 "${renamed[@]}" output="$folder/halving" asha.min_steps=2
[ $? = 2 ] || fail "halving without locks"
says "would do the same work"; says "Lustre: flock"
without 5 "${renamed[@]}" output="$folder/broken" && fail "an error of the disk"
says "cannot lock: Input/output error"
echo "clusters: all as they should be"
