#!/bin/bash
# Sweeps on a real Slurm of one node, started here as this user, without accounting: real jobs,
# requeued, cancelled and killed. 77 (skipped) where there is no Slurm, or its daemons can't run.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
for program in slurmctld slurmd sbatch munged; do
  command -v $program > /dev/null || PATH=$PATH:/usr/sbin
  command -v $program > /dev/null && continue
  echo "SKIPPED: there is no $program; apt-get install slurm-wlm munge"
  exit 77
done
folder=$(mktemp -d) || exit 1
chmod 755 "$folder"
# slurmctld waits at its end for a helper that the test of a dying node has killed.
end() {
  local daemons
  scancel --quiet --me 2> /dev/null
  daemons=$(cat "$folder"/*.pid 2> /dev/null)
  kill $daemons 2> /dev/null
  sleep 1
  kill -9 $daemons 2> /dev/null
  rm -rf "$folder"
}
trap end EXIT
skip() {
  echo "SKIPPED: $*; this machine does not let a Slurm of our own run"
  tail -n 3 "$folder"/*.log
  exit 77
}
. tests/integration/sweeps.sh
fail() { echo "FAILED: $*"; squeue; tail -n 5 "$folder"/*.log; exit 1; }

# One node on loopback, on ports of its own. A requeued job waits until its credential is over:
# cred_expire.
user=$(id -un) port=$((20000 + $$ % 20000)) cpus=$(env -u OMP_NUM_THREADS nproc)
mkdir "$folder/munge" "$folder/state" "$folder/spool"
(umask 077; head -c 1024 /dev/urandom > "$folder/munge/key")
cat > "$folder/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MaxArraySize=4
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=2048 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
C
export SLURM_CONF=$folder/slurm.conf
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
  --seed-file="$folder/munge/seed" 2> /dev/null || skip "munged does not start"
slurmctld || skip "slurmctld does not start"
slurmd || skip "slurmd does not start"
is_idle() { sinfo --noheader -o %T 2> /dev/null | grep -q idle; }
for _ in $(seq 100); do is_idle && break; sleep 0.1; done
is_idle || skip "the node does not come up"

small=$folder/small.yaml
cat > "$small" <<Y
base: $PWD/configs/train/cheating.yaml
seeds: 2
grid: {lora.rank: [1, 2], steps: [3], supervised_tokens: [64], checkpoint_every: [1]}
metric: {name: loss, goal: min}
launcher: {name: slurm, mem_gb: 0.9, timeout_min: 10}
Y
wait_for() {  # TEXT FOLDER [TRIES]
  for _ in $(seq "${3:-300}"); do
    sweep status "$2"; grep -qF -- "$1" "$folder/said" && return
    sleep 0.3
  done
  cat "$folder/said"; cat "$2"/logs/*.log | tail; fail "it never says: $1"
}
wait_for_end() { for _ in $(seq 300); do [ -z "$(squeue --noheader)" ] && break; sleep 0.3; done; }

# One array job; its script in the sweep's folder; all cells done; a second launch submits nothing.
ok sweep "$small" output="$folder/s"
says "as job"
grep -q '^#SBATCH --array=0-3$' "$folder/s/submit_1.sh" || fail "the script"
wait_for "4 done" "$folder/s"
ok sweep "$small" output="$folder/s"
[ ! -e "$folder/s/submit_2.sh" ] || fail "finished cells were submitted again"

# More cells than an array of this Slurm holds, in a folder of an odd name.
odd="$folder/50%x of it's #1 & [x] \$HOME"
(cat "$small"; echo "output: \"$odd\"") > "$folder/odd.yaml"
ok sweep "$folder/odd.yaml" seeds=3
grep -q '^#SBATCH --array=0-1$' "$odd/submit_2.sh" || fail "the second array"
wait_for "6 done" "$odd"
ls "$odd"/logs/{slurm-*_3,*rank=1*}.log > /dev/null || fail "logs: $(ls "$odd"/logs)"

# Long cells: undisturbed; told that the time is over; killed. All end with the same bytes.
long=$folder/long.yaml
sed 's/\[3\]/[100]/; s/seeds: 2/seeds: 1/' "$small" > "$long"
ok sweep "$long" output="$folder/undisturbed" --launcher local
start() {  # the sweep's folder, and settings: waits until its first cell has a checkpoint
  ok sweep "$long" output="$1" "${@:2}"
  begun "$1/cells/*rank=1*/checkpoints/step_*"
}
job() { tail -n 1 "$1/jobs.jsonl" | python3 -c 'import json; print(json.loads(input())["job"])'; }
start "$folder/timeout"
scancel --batch --signal=USR1 "$(job "$folder/timeout")"
wait_for "2 done" "$folder/timeout"
grep -qh "saved in" "$folder"/timeout/logs/*.log || fail "it was not stopped"
same_weights "$folder/timeout" "$folder/undisturbed" "requeued"
start "$folder/killed"
pkill -9 -f "sweep cell $folder/killed" || fail "nothing to kill"
wait_for "2 done" "$folder/killed"
same_weights "$folder/killed" "$folder/undisturbed" "killed and requeued"

# Cancelled: it saves, is not requeued, and is no failure; resume goes on.
start "$folder/cancelled"
ok sweep cancel "$folder/cancelled"
wait_for_end
[ -z "$(squeue --noheader)" ] || fail "a cancelled job is still there"
sweep status "$folder/cancelled"
if grep -E "failed|running" "$folder/said"; then fail "a cancelled cell is no failed one"; fi
says "0 cells wait or run"; says "CANCELLED: by its user"
ok sweep resume "$folder/cancelled"
wait_for "2 done" "$folder/cancelled"
same_weights "$folder/cancelled" "$folder/undisturbed" "cancelled and resumed"

# Jobs that matter more come: a cell saves and goes on after them, whether Slurm requeues what it
# ends or not.
for partition in test low; do
  start "$folder/preempted_$partition" launcher.partition=$partition
  sbatch --quiet --partition=high --exclusive --mem=1800M --output=/dev/null --wrap 'sleep 1' ||
    fail "submit"
  wait_for "2 done" "$folder/preempted_$partition"
  grep -qh "DUE TO PREEMPTION" "$folder/preempted_$partition"/logs/*.log ||
    fail "it was not preempted in $partition"
  same_weights "$folder/preempted_$partition" "$folder/undisturbed" "preempted in $partition"
done

# The node dies: slurmd, the job and all; it comes back, and so does the job. All of it is stopped
# before any of it is killed, or Slurm's helper on the node lives to report that a job was killed:
# that is a failed job, which Slurm does not requeue. What starts meanwhile the next look finds.
kill_node() {
  local each pid kept before=-1 pids=()
  kept=" $(cat "$folder/slurmctld.pid" "$folder/munged.pid" | tr '\n' ' ') "
  while [ ${#pids[@]} -ne $before ]; do
    before=${#pids[@]} pids=()
    for each in /proc/[0-9]*; do
      pid=${each#/proc/}
      [[ $kept = *" $pid "* ]] && continue
      grep -qzsx "SLURM_CONF=$SLURM_CONF" "$each/environ" && pids+=("$pid")
    done
    kill -STOP "${pids[@]}" 2> /dev/null
  done
  kill -9 "${pids[@]}" 2> /dev/null
  for _ in {1..100}; do  # a killed process takes its time to go
    pgrep -f "sweep cell $folder/node" > /dev/null || return 0
    sleep 0.1
  done
  fail "the node lives"
}
start "$folder/node"
kill_node
slurmd || fail "slurmd does not start again"
wait_for "2 done" "$folder/node"
same_weights "$folder/node" "$folder/undisturbed" "after the node died"

# Successive halving by workers that share nothing but the folder.
write_asha
echo "launcher: {name: slurm, mem_gb: 0.9, timeout_min: 10, array_parallelism: 2}" \
  >> "$folder/asha.yaml"
ok sweep "$folder/asha.yaml" output="$folder/a"
wait_for_end
sweep status "$folder/a"
check_asha "$folder/a"

# Cells of two ranks, one of them told that its time is over.
ok sweep "$long" output="$folder/pairs" launcher.name=local launcher.tasks_per_node=2
start "$folder/ranks" launcher.tasks_per_node=2
scancel --batch --signal=USR1 "$(job "$folder/ranks")_0"
wait_for "2 done" "$folder/ranks"
grep -qh "saved in" "$folder"/ranks/logs/*.log || fail "two ranks were not stopped"
same_weights "$folder/ranks" "$folder/pairs" "two ranks requeued"

# Slurm's own time limit, of a minute at least: only where there is time for it.
if [ -n "${INOCULUM_SLOW:-}" ]; then
  sed 's/\[60\]/[900]/; s/rank: \[1, 2\]/rank: [1]/; s/timeout_min: 10/timeout_min: 1/' "$long" \
    > "$folder/limit.yaml"
  ok sweep "$folder/limit.yaml" output="$folder/limit"
  wait_for "1 done" "$folder/limit" 2000
  grep -h "saved in" "$folder"/limit/logs/*.log || fail "the time limit did not stop it"
  ok sweep "$folder/limit.yaml" output="$folder/unlimited" --launcher local
  same_weights "$folder/limit" "$folder/unlimited" "over the time limit"
fi

# Two ranks by srun: the bytes of two ranks by --nproc.
quietly() { "$@" > "$folder/said" 2>&1; }
train=("$inoculum" train configs/train/cheating.yaml steps=5)
ok quietly "${train[@]}" --nproc 2 output="$folder/nproc"
ok quietly srun --quiet -n 2 --mem=900M --export=ALL,OMP_NUM_THREADS=1 "${train[@]}" \
  output="$folder/srun"
cmp "$folder"/{nproc,srun}/adapter/adapter_model.safetensors || fail "srun: other bytes"

# A job that Slurm does not take; no Slurm.
sweep "$small" output="$folder/p" launcher.partition=nowhere; [ $? = 2 ] || fail "a wrong partition"
says "invalid partition"; says "$folder/p/submit_1.sh"
PATH=/nowhere sweep "$small" output="$folder/n"; [ $? = 2 ] || fail "no Slurm"
says "there is no Slurm here"
echo "Slurm: all as it should be"
