# Sourced by the batch scripts of this folder: reads the site's settings and starts lexring on every rank. Not to be run
# by itself.
set -euo pipefail

die() {
  echo "${SLURM_JOB_NAME:-lexring}: $*" >&2
  exit 2
}

site=${LEXRING_SITE:-jobs/slurm/site.env}
[ -f "$site" ] || die "$site is missing; copy jobs/slurm/site.env.example to jobs/slurm/site.env and edit it"
# shellcheck source=site.env.example
source "$site"

lexring=$(realpath "${LEXRING_BINARY:-build/release/lexring}")
[ -x "$lexring" ] || die "$lexring is missing; build it on this cluster, or set LEXRING_BINARY in $site"

ranks_per_node=${SLURM_NTASKS_PER_NODE:-${LEXRING_RANKS_PER_NODE:-1}}
ranks=$((SLURM_NNODES * ranks_per_node))
[ "${SLURM_NTASKS:-$ranks}" -eq "$ranks" ] ||
  die "the job has $SLURM_NTASKS tasks, and $SLURM_NNODES nodes of $ranks_per_node ranks make $ranks;" \
    "submit with -N and --ntasks-per-node, without -n"
threads=${SLURM_CPUS_PER_TASK:-${LEXRING_THREADS:-$((SLURM_CPUS_ON_NODE / ranks_per_node))}}
((threads > 0)) || threads=1

restarts=${LEXRING_RESTARTS:-5}
[[ $restarts =~ ^[0-9]+$ ]] || die "LEXRING_RESTARTS = $restarts is not a whole number; choose e.g. 5"

# Threads that wait sleep: what moves messages needs a core now and then.
export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# Consecutive ranks share a node: tp varies fastest, then ulysses, so both stay inside one.
case ${LEXRING_LAUNCHER:-srun} in
  srun)
    start=(srun "--mpi=${LEXRING_MPI_PLUGIN:-pmix}" --ntasks="$ranks" --ntasks-per-node="$ranks_per_node"
      --cpus-per-task="$threads" --distribution=block --kill-on-bad-exit=1) ;;
  mpirun)
    start=(mpirun -n "$ranks" --map-by "ppr:$ranks_per_node:node" --bind-to none
      -x OMP_NUM_THREADS -x OMP_WAIT_POLICY) ;;
  *) die "LEXRING_LAUNCHER = $LEXRING_LAUNCHER; choose srun or mpirun" ;;
esac

# What `scontrol show job` says of this job.
comment() {
  echo "job $SLURM_JOB_ID: $*"
  scontrol update "JobId=$SLURM_JOB_ID" "Comment=$*" >/dev/null 2>&1 || true  # not every site allows it
}

# SIGUSR1, which Slurm sends once, before the time is up, is for lexring: train writes a checkpoint and ends with 75.
process='' stopping='' interrupted=''
trap 'stopping=yes interrupted=yes; kill -USR1 $process 2>/dev/null || true' USR1

# launch ARGUMENT...: lexring on every rank; returns its exit code.
launch() {
  echo "job $SLURM_JOB_ID: $SLURM_NNODES nodes ($SLURM_JOB_NODELIST) x $ranks_per_node ranks x $threads threads," \
    "by ${start[0]}, in $PWD"
  echo "lexring $*"
  local status
  "${start[@]}" "$lexring" "$@" &
  process=$! interrupted=yes
  while [ -n "$interrupted" ]; do  # a trapped signal ends 'wait', not the run
    interrupted='' status=0
    wait "$process" || status=$?
  done
  process=''
  return "$status"
}

# until_done ARGUMENT...: launches `lexring ARGUMENT...`, a training, until its last step is done. What was stopped goes
# on in another turn of the same job, in the queue; what failed is started again at once, on the same nodes, as often as
# it brings new checkpoints, and LEXRING_RESTARTS times in a row without. A mistake in the command (2) ends the job.
until_done() {
  cd "${LEXRING_DIRECTORY:-.}"
  local run newest status='' resume
  run=$("$lexring" config "${@:2}" --only checkpoint.directory) || exit 2
  mkdir -p "$run" || exit 1
  while begin_turn "$run" "$status"; do
    status=75
    if [ -z "$stopping" ]; then
      status=0
      launch "$@" "${resume[@]}" || status=$?
    fi
    case $status in
      0 | 2) break ;;
    esac
    if [ "$status" = 75 ] || [ -n "$stopping" ]; then
      newest=$(newest_checkpoint "$run")
      comment "stopped, to be continued from ${newest:-the start}"
      requeue
      break
    fi
    still_running || break
  done
  case $status in
    0) comment "finished" ;;
    2) comment "a mistake in the command, see the log" ;;
  esac
  rm -f "$run/turn" || true
  rmdir --ignore-fail-on-non-empty "$run" 2>/dev/null || true
  return "${status:-1}"
}

newest_checkpoint() {  # RUN
  find "$1" -maxdepth 1 -name 'step-[0-9]*' ! -name '*.*' -printf '%f\n' | sort | tail -n 1
}

# Before a start: counts restarts of this job without a new checkpoint, in a file of the run, which outlives requeueing;
# false after too many. Says how to resume: as the command does, until the job itself has brought a checkpoint.
begin_turn() {  # RUN STATUS
  local newest turn_of='' first='' last='' count=0
  newest=$(newest_checkpoint "$1")
  newest=${newest:-none}
  if [ -f "$1/turn" ]; then read -r turn_of first last count <"$1/turn"; fi
  resume=()
  if [ "$turn_of" != "$SLURM_JOB_ID" ] || ! [[ $count =~ ^[0-9]+$ ]]; then
    first=$newest count=0
  else
    [ "$newest" = "$first" ] || resume=(--resume auto)
    if [ "$newest" = "$last" ]; then ((++count)); else count=0; fi
    if ((count > restarts)); then
      comment "given up after $((count - 1)) restarts in a row without a new checkpoint, see the log"
      return 1
    fi
    [ -z "$2" ] || comment "failed with exit code $2, started again"
    sleep $((5 * count))
  fi
  echo "$SLURM_JOB_ID $first $newest $count" >"$1/turn" || true
}

# Whether the job goes on: not cancelled, say. What Slurm says of it is in `job`. The controller may be away a while.
still_running() {
  for ((try = 0; try < 20; ++try)); do
    if job=$(scontrol --oneliner show job "$SLURM_JOB_ID"); then
      [[ $job == *" JobState=RUNNING "* ]]
      return
    fi
    sleep 15
  done
  return 1
}

# Slurm ends this script and queues the job anew; returns where it does not: the job was cancelled, or submitted with
# --no-requeue.
requeue() {
  still_running && [[ $job == *" Requeue=1 "* ]] || return 0
  for ((try = 0; try < 20; ++try)); do
    if scontrol requeue "$SLURM_JOB_ID"; then sleep 300; fi
    sleep 15
  done
}
