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

# launch ARGUMENT...: lexring on every rank, in LEXRING_DIRECTORY; returns its exit code. SIGUSR1, which Slurm sends
# before the time is up, is passed on: train then writes a checkpoint and ends with 75.
launch() {
  cd "${LEXRING_DIRECTORY:-.}"
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
