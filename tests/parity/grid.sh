#!/usr/bin/env bash
# The whole parity grid on one machine, and its table.
#
#   tests/parity/grid.sh BUILD [FILE.md] [PARITY_GRID ARGUMENT...]
#
# BUILD: e.g. build/release; FILE: docs/results/parity.md
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
output=${2:-docs/results/parity.md}
shift $(($# < 2 ? $# : 2))

# As many ranks as the grid has, on any number of cores, as root too.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# Cases write checkpoints, again and again: into memory where there is some.
directory=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$directory"' EXIT

status=0
begin=$SECONDS
mpirun -n 8 "$build/tests/parity/parity_grid" --directory "$directory" --table "$directory/table.md" "$@" |
  tee "$directory/cases.txt" || status=$?
[ -s "$directory/table.md" ] || exit 1
{
  echo "# Parity"
  echo
  echo "\`tests/parity/grid.sh\` on $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | xargs)," \
    "$(getconf _NPROCESSORS_ONLN) cores, $(date +%F), commit $(git rev-parse --short HEAD)," \
    "$(((SECONDS - begin + 30) / 60)) minutes: $(tail -n 1 "$directory/cases.txt")."
  echo "20 steps in fp32 on each mesh against one rank; the worst relative error of all cases of a row." \
    "Allowed: loss 1e-5, gradient norm 1e-4, gradients of step 1"
  echo "by parameter 1e-5, final parameters 1e-4. What a case is: \`tests/parity/README.md\`."
  echo
  cat "$directory/table.md"
  if grep -q '^FAIL' "$directory/cases.txt"; then
    echo "Failed:"
    echo
    echo '```'
    grep -A1 '^FAIL' "$directory/cases.txt"
    echo '```'
  fi
} > "$output"
exit "$status"
