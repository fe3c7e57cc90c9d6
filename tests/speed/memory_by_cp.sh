#!/usr/bin/env bash
# Peak memory per rank of one training step of a long sequence, by the number of ranks that share it; Markdown rows on
# standard output.
#
#   tests/speed/memory_by_cp.sh BUILD [steps LENGTH RANKS... | evaluate LENGTH RANKS | blockwise LENGTH RANKS...]
#
#   steps 65536 1 2 4      a training step: 2 layers, width 128, bf16, causal, recompute layer (the default)
#   steps 262144 2         about 5 minutes on two cores
#   evaluate 1048576 4     one causal forward pass over one window; about 25 minutes
#   blockwise 65536 1 2 4  a training step of configs/bench_cpu.ini's model with blockwise attention, block 512
#
# Takes the whole machine: let nothing else run beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
lexring=$PWD/$1/lexring
what=${2:-steps}
length=${3:-65536}
shift $(($# < 3 ? $# : 3))
ranks=("$@")
if [ ${#ranks[@]} -eq 0 ]; then ranks=(1 2 4); fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_WAIT_POLICY=passive
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
seq 1 $((length / 5 + 2000)) > "$directory/numbers.txt"
"$lexring" prepare --input "$directory/numbers.txt" --output "$directory/data.h5" > /dev/null 2>&1

# Runs a command and writes the most memory it had resident, in KiB, as the kernel counted it.
cat > "$directory/peak.sh" <<'RANK'
"$@" &
while peak=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$!/status" 2> /dev/null) && [ -n "$peak" ]; do
  echo "$peak" > "$PEAKS/${OMPI_COMM_WORLD_RANK:-0}"
  sleep 0.2
done
wait $!
RANK
small=(--model.layers 2 --model.width 128 --model.heads 2)
training=(--train.length "$length" --train.batch 1 --train.steps 1 --train.precision bf16
  --train.recompute layer --optimizer.warmup 0
  --checkpoint.every 0 --data.train "$directory/data.h5" --data.documents ignore)

echo "| ranks | peak per rank, MiB | seconds |"
echo "|---|---|---|"
for n in "${ranks[@]}"; do
  cores=$(getconf _NPROCESSORS_ONLN)
  export OMP_NUM_THREADS=$((cores / n > 0 ? cores / n : 1)) PEAKS=$directory/peaks-$n
  mkdir -p "$PEAKS"
  run=$directory/run-$n
  command=("$lexring" train "${training[@]}" --checkpoint.directory "$run" --mesh.cp "$n")
  case $what in
    steps) command+=("${small[@]}") ;;
    blockwise)
      command+=(--config configs/bench_cpu.ini --model.vocab 0 --attention.pattern blockwise --attention.block 512) ;;
    evaluate)
      "$lexring" train "${training[@]}" "${small[@]}" --train.length 256 --checkpoint.directory "$run" > /dev/null 2>&1
      command=("$lexring" evaluate --checkpoint "$run" --data "$directory/data.h5" --lengths "$length"
        --tokens "$length" --patterns causal --resolution 0 --output "$run/evaluation" --mesh.cp "$n") ;;
    *) echo "memory_by_cp.sh: '$what' is not known; choose steps, blockwise or evaluate" >&2; exit 2 ;;
  esac
  begin=$(date +%s.%N)
  if ! mpirun -n "$n" bash "$directory/peak.sh" "${command[@]}" > "$directory/log" 2>&1; then
    cat "$directory/log" >&2
    exit 1
  fi
  seconds=$(echo "$(date +%s.%N) $begin" | awk '{printf("%.0f", $1 - $2)}')
  peaks=$(cat "$PEAKS"/* | awk '{printf("%s%.0f", (NR > 1 ? ", " : ""), $1 / 1024)}')
  echo "| $n | $peaks | $seconds |"
done
