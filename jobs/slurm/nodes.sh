# Sourced by launch.sh: which nodes of the job a launch is to use. Not to be run by itself.
#
#   alive     nodes of the job that answer, in Slurm's order
#   marks     how often a launch ended because of a node, in this job; with 2 it is left out where it can
#   nodes     those to start on: as many as the command is meant for, or, of fewer, as many as form a mesh
#   mesh      the keys of that mesh, where it is not the command's own

# Of the job that `job` describes.
nodes_of_job() {
  [[ $job =~ \ NodeList=([^ ]+) ]] && scontrol show hostnames "${BASH_REMATCH[1]}"
}

# Sets `alive` to the job's nodes that can start a process. Slurm takes a node that failed out of the job (--no-kill)
# once it has noticed; one that it has not noticed yet holds up the probe of all, and then each is asked alone.
find_living() {
  local here node
  local probe=(timeout 30 srun --overlap --mpi=none --quiet --cpus-per-task=1 --ntasks-per-node=1)
  mapfile -t here < <(nodes_of_job)
  alive=("${here[@]}")
  "${probe[@]}" --nodes="${#here[@]}" --ntasks="${#here[@]}" true 2>/dev/null && return
  alive=()
  while read -r node; do alive+=("$node"); done < <(
    for node in "${here[@]}"; do
      { "${probe[@]}" --nodes=1 --ntasks=1 --nodelist="$node" true 2>/dev/null && echo "$node"; } &
    done | sort --version-sort
  )
  ((${#alive[@]})) || alive=("${here[@]}")  # nothing is known: this script lives, after all
}

# Sets `nodes` and `mesh` for `lexring ARGUMENT...`; false: too few are left.
choose_nodes() {  # ARGUMENT...
  local good=() node answer
  for node in "${alive[@]}"; do
    if ((${marks[$node]:-0} < 2)); then good+=("$node"); fi
  done
  local -n those
  for those in good alive; do
    mesh=()
    if ((${#those[@]} >= planned)); then
      nodes=("${those[@]:0:planned}")
      return
    fi
    if [ "$elastic" = yes ] && ((${#those[@]})) &&
      answer=$("$lexring" mesh --planned "$planned" --left "${#those[@]}" --ranks "$ranks_per_node" "$@"); then
      read -r -a mesh <<<"$answer"
      nodes=("${those[@]:0:${mesh[0]}}") mesh=("${mesh[@]:1}")
      return
    fi
  done
  return 1
}

# "n[1-2], 2 of 3 nodes (--mesh.dp 1 --mesh.cp 2), leaving out n3".
describe_nodes() {
  local node bad=() text
  text="$(compressed "${nodes[@]}")"
  if ((${#nodes[@]} < planned)); then text+=", ${#nodes[@]} of $planned nodes (${mesh[*]})"; fi
  for node in "${!marks[@]}"; do
    if ((${marks[$node]} >= 2)) && [[ " ${nodes[*]} " != *" $node "* ]]; then bad+=("$node"); fi
  done
  if ((${#bad[@]})); then text+=", leaving out $(compressed "${bad[@]}")"; fi
  echo "$text"
}

compressed() {  # NODE...
  local IFS=,
  scontrol show hostlistsorted "$*"
}

# The lines of a launch that tell why it ended.
why_it_ended='^(lexring: |machine |srun: error: [^ ]+: task|srun: error: Node failure on |mpirun noticed that )'

# Prints the node that ended a launch; nothing where it was not a node. It is one that "machine NODE: ..." names, or,
# by the first line, the one that failed, whose rank a signal killed, or whose ranks do not answer; everything after
# that is what the launcher or lexring did to the others.
blamed_node() {  # LINES
  local node='' line first
  while read -r line; do
    if [[ $line =~ ^(lexring:\ )?(rank\ [0-9]+:\ )?machine\ ([^\ :]+):\  ]]; then node=${BASH_REMATCH[3]}; fi
  done <<<"$1"
  first=${1%%$'\n'*}
  local killed='(Killed|Segmentation fault|Bus error|Illegal instruction|Floating point exception|Out Of Memory)'
  local silent='(Rank|None of ranks) ([0-9]+)(, ([0-9]+))* (and [0-9]+ more )?does not answer'
  if [ -n "$node" ]; then :
  elif [[ $first =~ ^srun:\ error:\ Node\ failure\ on\ ([^ ,]+)$ ]]; then node=${BASH_REMATCH[1]}
  elif [[ $first =~ ^srun:\ error:\ ([^ ]+):\ tasks?\ [0-9,-]+:\ $killed ]]; then node=${BASH_REMATCH[1]}
  elif [[ $first =~ ^mpirun\ noticed\ .*\ on\ node\ ([^ ]+)\ exited\ on\ signal ]]; then node=${BASH_REMATCH[1]}
  elif [[ $first =~ $silent ]]; then
    local one=$((BASH_REMATCH[2] / ranks_per_node)) last=${BASH_REMATCH[4]:-${BASH_REMATCH[2]}}
    if ((one == last / ranks_per_node && one < ${#nodes[@]})); then node=${nodes[one]}; fi
  fi
  if [[ " ${nodes[*]} " == *" $node "* ]]; then echo "$node"; fi
}

# With --no-kill Slurm (seen with 22.05) lets a job run on whose script is lost with its node, doing nothing: a process
# on another node asks for its next turn then. Started again where it is lost itself.
keep_watch() {
  if ((${#alive[@]} < 2)) || { [ -n "$watch" ] && kill -0 "$watch" 2>/dev/null; }; then return; fi
  # shellcheck disable=SC2016
  srun --overlap --mpi=none --quiet --cpus-per-task=1 --nodes=1 --ntasks=1 --nodelist="${alive[-1]}" bash -c '
    trap : USR1
    while sleep 15; do
      job=$(scontrol --oneliner show job "$1" 2>/dev/null) || continue
      [[ $job == *" JobState=RUNNING "* ]] || exit 0
      [[ $job =~ \ NodeList=([^\ ]+) ]] || continue
      scontrol show hostnames "${BASH_REMATCH[1]}" | grep -qxF "$2" && continue
      scontrol update "JobId=$1" "Comment=$2, where its script ran, failed: requeued"
      scontrol requeue "$1" || scancel "$1"
    done' watch "$SLURM_JOB_ID" "$SLURMD_NODENAME" >/dev/null 2>&1 </dev/null &
  watch=$!
}
