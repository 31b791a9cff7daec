#!/bin/bash
# Sweeps on a real Slurm of one node, started here as this user, without accounting: real jobs, requeued, cancelled and killed.
# 77 (skipped) where there is no Slurm, or its daemons can't run.
inoculum=$1
cd "$(dirname "$0")/../.." || exit 1
for program in slurmctld slurmd sbatch munged; do
  command -v $program > /dev/null || PATH=$PATH:/usr/sbin
  command -v $program > /dev/null || { echo "SKIPPED: there is no $program; apt-get install slurm-wlm munge"; exit 77; }
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
skip() { echo "SKIPPED: $*; this machine does not let a Slurm of our own run"; tail -n 3 "$folder"/*.log; exit 77; }
fail() { echo "FAILED: $*"; tail -n 5 "$folder"/*.log; exit 1; }
says() { grep -qF -- "$1" "$folder/said" || { cat "$folder/said"; fail "it does not say: $1"; }; }
sweep() { "$inoculum" sweep "$@" > "$folder/said" 2>&1; }

# One node on loopback, on ports of its own. A requeued job waits until its credential is over: cred_expire.
user=$(id -un) port=$((20000 + $$ % 20000))
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
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(env -u OMP_NUM_THREADS nproc) RealMemory=2048 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
C
export SLURM_CONF=$folder/slurm.conf
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munge/seed" 2> /dev/null || skip "munged does not start"
slurmctld || skip "slurmctld does not start"
slurmd || skip "slurmd does not start"
for _ in $(seq 100); do sinfo --noheader -o %T 2> /dev/null | grep -q idle && break; sleep 0.1; done
sinfo --noheader -o %T | grep -q idle || skip "the node does not come up"

cat > "$folder/small.yaml" <<Y
base: $PWD/configs/train/cheating.yaml
seeds: 2
grid: {lora.rank: [1, 2], steps: [3], supervised_tokens: [64], checkpoint_every: [1]}
metric: {name: loss, goal: min}
launcher: {name: slurm, mem_gb: 0.9, timeout_min: 10}
Y
wait_for() {  # TEXT FOLDER [TRIES]
  for _ in $(seq "${3:-300}"); do sweep status "$2"; grep -qF -- "$1" "$folder/said" && return; sleep 0.3; done
  cat "$folder/said"; squeue; cat "$2"/logs/*.log | tail; fail "it never says: $1"
}
weights() { (cd "$1/cells" && sha256sum */adapter/adapter_model.safetensors); }

# One array job; its script in the sweep's folder; all cells done; a second launch submits nothing.
sweep "$folder/small.yaml" output="$folder/s" || { cat "$folder/said"; fail "submit"; }
says "as job"
grep -q '^#SBATCH --array=0-3$' "$folder/s/submit_1.sh" || fail "the script"
wait_for "4 done" "$folder/s"
sweep "$folder/small.yaml" output="$folder/s" || fail "the second launch"
[ ! -e "$folder/s/submit_2.sh" ] || fail "finished cells were submitted again"

# More cells than an array of this Slurm holds, in a folder of an odd name.
odd="$folder/50%x of it's #1 & [x] \$HOME"
(cat "$folder/small.yaml"; echo "output: \"$odd\"") > "$folder/odd.yaml"
sweep "$folder/odd.yaml" seeds=3 || { cat "$folder/said"; fail "submit"; }
grep -q '^#SBATCH --array=0-1$' "$odd/submit_2.sh" || fail "the second array"
wait_for "6 done" "$odd"
ls "$odd"/logs/slurm-*_3.log "$odd"/logs/*rank=1*.log > /dev/null || fail "logs: $(ls "$odd"/logs)"

# Long cells: undisturbed; told that the time is over; killed. All end with the same bytes.
sed 's/\[3\]/[60]/; s/seeds: 2/seeds: 1/' "$folder/small.yaml" > "$folder/long.yaml"
sweep "$folder/long.yaml" output="$folder/undisturbed" --launcher local || fail "undisturbed"
begun() { for _ in $(seq 600); do ls "$1"/cells/*rank=1*/checkpoints/step_* > /dev/null 2>&1 && return; sleep 0.1; done; squeue; fail "it never begins"; }
job() { python3 -c 'import json,sys; print([json.loads(l)["job"] for l in open(sys.argv[1])][-1])' "$1/jobs.jsonl"; }
sweep "$folder/long.yaml" output="$folder/timeout" || fail "submit"
begun "$folder/timeout"
scancel --batch --signal=USR1 "$(job "$folder/timeout")"
wait_for "2 done" "$folder/timeout"
grep -qh "saved in" "$folder"/timeout/logs/*.log || fail "it was not stopped"
cmp <(weights "$folder/timeout") <(weights "$folder/undisturbed") || fail "requeued: other bytes"
sweep "$folder/long.yaml" output="$folder/killed" || fail "submit"
begun "$folder/killed"
pkill -9 -f "sweep cell $folder/killed" || fail "nothing to kill"
wait_for "2 done" "$folder/killed"
cmp <(weights "$folder/killed") <(weights "$folder/undisturbed") || fail "killed and requeued: other bytes"

# Cancelled: it saves, is not requeued, and is no failure; resume goes on.
sweep "$folder/long.yaml" output="$folder/cancelled" || fail "submit"
begun "$folder/cancelled"
sweep cancel "$folder/cancelled" || fail "cancel"
for _ in $(seq 100); do [ -z "$(squeue --noheader)" ] && break; sleep 0.1; done
[ -z "$(squeue --noheader)" ] || { squeue; fail "a cancelled job is still there"; }
sweep status "$folder/cancelled"; grep -qE "failed|running" "$folder/said" && { cat "$folder/said"; fail "a cancelled cell is no failed one"; }
says "0 cells wait or run"; says "CANCELLED: by its user"
sweep resume "$folder/cancelled" || fail "resume"
wait_for "2 done" "$folder/cancelled"
cmp <(weights "$folder/cancelled") <(weights "$folder/undisturbed") || fail "cancelled and resumed: other bytes"

# Jobs that matter more come: a cell saves and goes on after them, whether Slurm requeues what it ends or not.
for partition in test low; do
  sweep "$folder/long.yaml" output="$folder/preempted_$partition" launcher.partition=$partition || fail "submit"
  begun "$folder/preempted_$partition"
  sbatch --quiet --partition=high --exclusive --mem=1800M --output=/dev/null --wrap 'sleep 1' || fail "submit"
  wait_for "2 done" "$folder/preempted_$partition"
  grep -qh "DUE TO PREEMPTION" "$folder/preempted_$partition"/logs/*.log || fail "it was not preempted in $partition"
  cmp <(weights "$folder/preempted_$partition") <(weights "$folder/undisturbed") || fail "preempted in $partition: other bytes"
done

# The node dies: slurmd, the job and all; it comes back, and so does the job.
kill_node() {
  local each pid
  for each in /proc/[0-9]*; do
    pid=${each#/proc/}
    [[ " $(cat "$folder/slurmctld.pid" "$folder/munged.pid" | tr '\n' ' ') " = *" $pid "* ]] && continue
    grep -qzsx "SLURM_CONF=$SLURM_CONF" "$each/environ" && kill -9 "$pid" 2> /dev/null
  done
}
sweep "$folder/long.yaml" output="$folder/node" || fail "submit"
begun "$folder/node"
kill_node
pgrep -f "sweep cell $folder/node" > /dev/null && fail "the node lives"
slurmd || fail "slurmd does not start again"
wait_for "2 done" "$folder/node"
cmp <(weights "$folder/node") <(weights "$folder/undisturbed") || fail "after the node died: other bytes"

# Successive halving by workers that share nothing but the folder.
cat > "$folder/asha.yaml" <<Y
base: $folder/asha_base.yaml
grid: {optimizer.lr: [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 1e-30, 1e-20, 1e-10]}
asha: {min_steps: 3, reduction: 3}
metric: {name: loss, goal: min}
launcher: {name: slurm, mem_gb: 0.9, timeout_min: 10, array_parallelism: 2}
Y
printf 'base: %s\nsteps: 27\nsupervised_tokens: 64\ncheckpoint_every: 1\n' "$PWD/configs/train/cheating.yaml" > "$folder/asha_base.yaml"
sweep "$folder/asha.yaml" output="$folder/a" || fail "halving"
for _ in $(seq 300); do [ -z "$(squeue --noheader)" ] && break; sleep 0.3; done
sweep status "$folder/a"; says "stopped early"; says " done"
[ "$(ls "$folder"/a/asha/0_0/*.json | wc -l)" = 9 ] || fail "a cell was left out"
finished=$(ls "$folder"/a/cells/*/result.json | wc -l)
[ "$finished" -ge 1 ] && [ "$finished" -le 3 ] || fail "$finished cells ran to their end"

# Cells of two ranks, one of them told that its time is over.
sweep "$folder/long.yaml" output="$folder/pairs" launcher.name=local launcher.tasks_per_node=2 || { cat "$folder/said"; fail "two ranks, undisturbed"; }
sweep "$folder/long.yaml" output="$folder/ranks" launcher.tasks_per_node=2 || fail "submit"
begun "$folder/ranks"
scancel --batch --signal=USR1 "$(job "$folder/ranks")_0"
wait_for "2 done" "$folder/ranks"
grep -qh "saved in" "$folder"/ranks/logs/*.log || fail "two ranks were not stopped"
cmp <(weights "$folder/ranks") <(weights "$folder/pairs") || fail "two ranks requeued: other bytes"

# Slurm's own time limit, of a minute at least: only where there is time for it.
if [ -n "${INOCULUM_SLOW:-}" ]; then
  sed 's/\[60\]/[900]/; s/rank: \[1, 2\]/rank: [1]/; s/timeout_min: 10/timeout_min: 1/' "$folder/long.yaml" > "$folder/limit.yaml"
  sweep "$folder/limit.yaml" output="$folder/limit" || fail "submit"
  wait_for "1 done" "$folder/limit" 2000
  grep -h "saved in" "$folder"/limit/logs/*.log || fail "the time limit did not stop it"
  sweep "$folder/limit.yaml" output="$folder/unlimited" --launcher local || fail "unlimited"
  cmp <(weights "$folder/limit") <(weights "$folder/unlimited") || fail "over the time limit: other bytes"
fi

# Two ranks by srun: the bytes of two ranks by --nproc.
two() { "$inoculum" train "$@" configs/train/cheating.yaml steps=5 output="$folder/$name" > "$folder/said" 2>&1; }
name=nproc two --nproc 2 || { cat "$folder/said"; fail "--nproc 2"; }
srun --quiet -n 2 --mem=900M --export=ALL,OMP_NUM_THREADS=1 "$inoculum" train configs/train/cheating.yaml steps=5 output="$folder/srun" > "$folder/said" 2>&1 ||
  { cat "$folder/said"; fail "srun -n 2"; }
cmp "$folder/nproc/adapter/adapter_model.safetensors" "$folder/srun/adapter/adapter_model.safetensors" || fail "srun: other bytes"

# A job that Slurm does not take; no Slurm.
sweep "$folder/small.yaml" output="$folder/p" launcher.partition=nowhere; [ $? = 2 ] || fail "a wrong partition"
says "invalid partition"; says "$folder/p/submit_1.sh"
PATH=/nowhere sweep "$folder/small.yaml" output="$folder/n"; [ $? = 2 ] || fail "no Slurm"
says "there is no Slurm here"
echo "Slurm: all as it should be"
