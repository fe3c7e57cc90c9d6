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

# until_done ARGUMENT...: launches `lexring ARGUMENT...`, a training, until its last step is done. What was stopped (75)
# goes on in another turn of the same job, in the queue; what failed is started again at once, on the same nodes. Gives
# up after LEXRING_RESTARTS starts in a row that brought no new checkpoint; at once after a mistake in the command.
until_done() {
  cd "${LEXRING_DIRECTORY:-.}"
  local run status
  run=$("$lexring" config "${@:2}" --only checkpoint.directory) || exit 2
  mkdir -p "$run" || exit 1
  while begin_turn "$run"; do
    status=0
    launch "$@" || status=$?
    case $status in
      0) comment "finished"; rm -f "$run/turn"; return 0 ;;
      2) comment "a mistake in the command, see the log"; break ;;
      75) comment "stopped, to be continued from $(newest_checkpoint "$run")"; requeue; break ;;
    esac
    still_running || break
    comment "failed with exit code $status, started again"
  done
  rm -f "$run/turn"
  rmdir --ignore-fail-on-non-empty "$run" 2>/dev/null || true
  return "${status:-1}"
}

newest_checkpoint() {  # RUN
  find "$1" -maxdepth 1 -name 'step-[0-9]*' ! -name '*.*' -printf '%f\n' | sort | tail -n 1
}

# Counts starts of this job without a new checkpoint, in its file, which outlives requeueing; false after too many.
begin_turn() {  # RUN
  local newest job='' last='' count=0
  newest=$(newest_checkpoint "$1")
  if [ -f "$1/turn" ]; then read -r job last count <"$1/turn"; fi
  if [ "$job $last" = "$SLURM_JOB_ID ${newest:-none}" ]; then ((++count)); else count=0; fi
  if ((count > ${LEXRING_RESTARTS:-5})); then
    comment "given up: $count starts in a row ended without a new checkpoint, see the log"
    return 1
  fi
  echo "$SLURM_JOB_ID ${newest:-none} $count" >"$1/turn" || true
}

still_running() {  # not cancelled, say
  scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q ' JobState=RUNNING '
}

# Slurm ends this script and queues the job anew; returns where it does not: the job was cancelled, or submitted with
# --no-requeue.
requeue() {
  still_running || return 0
  scontrol requeue "$SLURM_JOB_ID" 2>/dev/null || return 0
  sleep 300
}

# launch ARGUMENT...: lexring on every rank; returns its exit code. SIGUSR1, which Slurm sends before the time is up, is
# passed on: train then writes a checkpoint and ends with 75.
launch() {
  echo "job $SLURM_JOB_ID: $SLURM_NNODES nodes ($SLURM_JOB_NODELIST) x $ranks_per_node ranks x $threads threads," \
    "by ${start[0]}, in $PWD"
  echo "lexring $*"
  local process status interrupted=yes
  "${start[@]}" "$lexring" "$@" &
  process=$!
  # shellcheck disable=SC2064  # the process of now
  trap "interrupted=yes; kill -USR1 $process" USR1
  while [ -n "$interrupted" ]; do  # a trapped signal ends 'wait', not the run
    interrupted='' status=0
    wait "$process" || status=$?
  done
  return "$status"
}
