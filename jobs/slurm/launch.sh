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

ranks_per_node=${SLURM_NTASKS_PER_NODE:-${LEXRING_RANKS_PER_NODE:-${LEXRING_GPUS:-${SLURM_GPUS_ON_NODE:-1}}}}
ranks=$((SLURM_NNODES * ranks_per_node))
[ "${SLURM_NTASKS:-$ranks}" -eq "$ranks" ] ||
  die "the job has $SLURM_NTASKS tasks, and $SLURM_NNODES nodes of $ranks_per_node ranks make $ranks;" \
    "submit with -N and --ntasks-per-node, without -n"
threads=${SLURM_CPUS_PER_TASK:-${LEXRING_THREADS:-$((SLURM_CPUS_ON_NODE / ranks_per_node))}}
((threads > 0)) || threads=1

restarts=${LEXRING_RESTARTS:-5} spares=${LEXRING_SPARES:-0} elastic=${LEXRING_ELASTIC:-yes}
[[ $restarts =~ ^[0-9]+$ ]] || die "LEXRING_RESTARTS = $restarts is not a whole number; choose e.g. 5"
[[ $spares =~ ^[0-9]+$ ]] || die "LEXRING_SPARES = $spares is not a whole number; choose e.g. 1"
((spares < SLURM_NNODES)) || spares=$((SLURM_NNODES - 1))  # a job of one node, say
[[ $elastic =~ ^(yes|no)$ ]] || die "LEXRING_ELASTIC = $elastic is neither yes nor no"
planned=$((SLURM_NNODES - spares))

# Threads that wait sleep: what moves messages needs a core now and then.
export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

source jobs/slurm/nodes.sh
mapfile -t alive < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
declare -A marks=()
nodes=("${alive[@]:0:planned}") mesh=() watch=''

# Sets `start`, what starts a program on every rank. Consecutive ranks share a node: tp varies fastest, then ulysses, so
# both stay inside one.
make_start() {
  local list ranks=$((${#nodes[@]} * ranks_per_node))
  case ${LEXRING_LAUNCHER:-srun} in
    srun)
      list=$(IFS=,; echo "${nodes[*]}")
      start=(srun "--mpi=${LEXRING_MPI_PLUGIN:-pmix}" --nodes="${#nodes[@]}" --nodelist="$list" --ntasks="$ranks"
        --ntasks-per-node="$ranks_per_node" --cpus-per-task="$threads" --distribution=block --kill-on-bad-exit=1) ;;
    mpirun)
      list=$(IFS=,; echo "${nodes[*]/%/:$ranks_per_node}")
      start=(env SLURM_NTASKS="$ranks" mpirun -n "$ranks" --host "$list" --map-by "ppr:$ranks_per_node:node"
        --bind-to none -x OMP_NUM_THREADS -x OMP_WAIT_POLICY) ;;
    *) die "LEXRING_LAUNCHER = $LEXRING_LAUNCHER; choose srun or mpirun" ;;
  esac
}

# What `scontrol show job` says of this job. Not every site allows it; without slurmdbd Slurm refuses it, after five
# seconds for which nobody waits, once a job has lost a node.
commenting=''
comment() {
  echo "job $SLURM_JOB_ID: $*"
  scontrol update "JobId=$SLURM_JOB_ID" "Comment=$*" >/dev/null 2>&1 &
  commenting=$!
}

# SIGUSR1, which Slurm sends once, before the time is up, is for lexring: it keeps what it has and ends with 75.
process='' stopping='' interrupted=''
trap 'stopping=yes interrupted=yes; kill -USR1 $process 2>/dev/null || true' USR1

# wait_for PROCESS: its exit code. A trapped signal ends 'wait', not the process.
wait_for() {
  local status
  interrupted=yes
  while [ -n "$interrupted" ]; do
    interrupted='' status=0
    wait "$1" || status=$?
  done
  return "$status"
}

# launch ARGUMENT...: lexring on every rank; returns its exit code. `ended`: the lines that tell why.
launch() {
  local start notes status=0 errors reader end="end of launch $RANDOM$RANDOM"
  make_start
  echo "job $SLURM_JOB_ID: ${#nodes[@]} nodes ($(compressed "${nodes[@]}")) x $ranks_per_node ranks x" \
    "$threads threads, by ${LEXRING_LAUNCHER:-srun}, in $PWD"
  echo "lexring $*"
  notes=$(mktemp)
  coproc said { exec sed --unbuffered --regexp-extended -e "/^$end\$/Q" -e "/$why_it_ended/w $notes" >&2; }
  reader=$said_PID
  exec {errors}>&"${said[1]}"
  "${start[@]}" "$lexring" "$@" 2>&"$errors" {errors}>&- &
  process=$!
  [ -z "$stopping" ] || kill -USR1 "$process"  # it came while there was no process to send it to
  wait_for "$process" || status=$?
  process=''
  echo "$end" >&"$errors"  # who still holds the other end of the pipe is not waited for
  exec {errors}>&-
  wait_for "$reader" || true
  ended=$(<"$notes")
  rm -f "$notes"
  return "$status"
}

# until_done ARGUMENT...: launches `lexring ARGUMENT...`, train or evaluate, until it is done. What was stopped goes on
# in another turn of the same job, in the queue; what failed is started again at once, on the nodes that are left, as
# often as it brings something new, and LEXRING_RESTARTS times in a row without. A mistake in the command (2), and
# numbers that went wrong for good (3), end the job.
until_done() {
  cd "${LEXRING_DIRECTORY:-.}"
  local run turn status='' words=("$@") resume=() ended='' turn_of='' first='' last='' count=0
  run=$(directory_of "$@") || exit 2
  mkdir -p "$run" || exit 1
  turn=$run/turn
  if [ "$1" != train ]; then turn=$run/turn-$1; fi
  while begin_turn "$@"; do
    if ! choose_nodes "$@"; then
      status=75
      comment "${#alive[@]} of $planned nodes are left, too few; waits for others"
      requeue
      break
    fi
    [ -z "$status" ] || comment "failed with exit code $status, started again on $(describe_nodes)"
    if [ -z "$stopping" ]; then
      keep_watch
      status=0
      launch "${words[@]}" "${mesh[@]}" "${resume[@]}" || status=$?
    fi
    case $status in
      0 | 2 | 3) break ;;
    esac
    if [ "$status" = 75 ] || [ -n "$stopping" ]; then
      status=75
      comment "stopped, to be continued$([ "$1" != train ] || newest_checkpoint | sed 's/^/ from /; s/none/the start/')"
      requeue
      break
    fi
    still_running || break
    mark_node "$status"
    find_living
  done
  case $status in
    0) comment "finished$( ((${#nodes[@]} == planned)) || echo " on $(describe_nodes)")" ;;
    2) comment "a mistake in the command, see the log" ;;
    3) comment "the numbers went wrong for good, see the log" ;;
  esac
  [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
  [ -z "$commenting" ] || wait_for "$commenting" || true
  rm -f "$turn" || true
  rmdir --ignore-fail-on-non-empty "$run" 2>/dev/null || true
  return "${status:-1}"
}

# Where `lexring ARGUMENT...` keeps what it has.
directory_of() {  # ARGUMENT...
  local word before=''
  case $1 in
    train) "$lexring" config "${@:2}" --only checkpoint.directory ;;
    *)
      for word; do
        case $word in --output=*) echo "${word#*=}"; return ;; esac
        if [ "$before" = --output ]; then echo "$word"; return; fi
        before=$word
      done
      die "lexring $1 keeps nothing without --output" ;;
  esac
}

# What launches have brought, as a word that is another one after progress: of a training its newest checkpoint, else
# the files that it keeps.
newest_of() {  # COMMAND
  case $1 in
    train) newest_checkpoint ;;
    *) find "$run" -maxdepth 3 -type f ! -name 'turn*' -printf '%P %s\n' | sort | cksum | tr ' ' - ;;
  esac
}
newest_checkpoint() {
  local newest
  newest=$(find "$run" -maxdepth 1 -name 'step-[0-9]*' ! -name '*.*' -printf '%f\n' | sort | tail -n 1)
  echo "${newest:-none}"
}

# Before a start: counts restarts of this job that brought nothing, in a file of the run, which outlives requeueing, as
# marks of nodes do; false after too many. Says how to resume: as the command does, until the job itself has brought a
# checkpoint; and `words`, the command.
begin_turn() {  # COMMAND ...
  local newest node word
  newest=$(newest_of "$1")
  if [ -z "$status" ] && [ -f "$turn" ]; then  # later it is known, also where a full disk does not take the file
    {
      read -r turn_of first last count || true
      if [ "$turn_of" = "$SLURM_JOB_ID" ]; then read_marks; fi
    } <"$turn"
  fi
  resume=()
  if [ "$turn_of" != "$SLURM_JOB_ID" ] || ! [[ $count =~ ^[0-9]+$ ]]; then
    first=$newest count=0
  else
    if [ "$1" = train ] && [ "$newest" != "$first" ]; then resume=(--resume auto); fi
    words=()  # what an evaluation has kept by now is its own
    for word; do [ "$word" = --overwrite ] || words+=("$word"); done
    if [ "$newest" = "$last" ]; then ((++count)); else count=0; fi
    if ((count > restarts)); then
      comment "given up after $((count - 1)) restarts in a row without progress, see the log"
      return 1
    fi
  fi
  turn_of=$SLURM_JOB_ID last=$newest
  {
    echo "$SLURM_JOB_ID $first $newest $count"
    for node in "${!marks[@]}"; do echo "$node ${marks[$node]}"; done
  } >"$turn.new" && mv "$turn.new" "$turn" || rm -f "$turn.new" || true
  sleep $((5 * count))
}

read_marks() {
  local node count
  while read -r node count; do
    if [[ $count =~ ^[0-9]+$ ]]; then marks[$node]=$count; fi
  done
}

# After a launch that failed. Exit code 4: a machine computes wrong numbers, and is left out at once.
mark_node() {  # STATUS
  local node
  node=$(blamed_node "$ended")
  if [ -n "$node" ]; then marks[$node]=$((${marks[$node]:-0} + ($1 == 4 ? 2 : 1))); fi
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
