#!/usr/bin/env bash
# One command on a machine with a GPU and no network: builds (or runs from a bundle of jobs/bundle.sh), tests every
# kernel, trains, measures, and writes one Markdown and one JSON file with device, driver, commit and date, anew after
# every part. What there was no time for, a second run with --continue does.
#
#   ./jobs/gpu_check.sh [--deadline SECONDS] [--continue] [--output DIR] [--build DIR] [--ceiling FILE.json]
#                       [--peer torch_train.py] [--text FILE] [PART...]
#
# PART: build tests sanitizer verify ranks curve kernels steps peer (all, in this order, where none is named).
# --deadline  when the whole ends, from its start (560: a limit of 10 minutes, and some seconds to copy results)
# --continue  leaves out the parts that passed in the run whose files are in --output, and adds to these
# --build     a tree that is built already; without, build/cuda, built here (a bundle has its own)
# --output    where gpu_check.md and gpu_check.json go (docs/results/gpu)
# --ceiling   a gpu_check.json whose part `kernels` measured the large product, for steps where this run does not
# --peer      a PyTorch program that trains the same model, for the comparison; without it, that part is left out
# --text      text to train on for the curve (the README of this repository, or the configurations of a bundle)
set -uo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

root=$(cd "$(dirname "$0")/.." && pwd)
output='' build='' peer='' text='' ceiling='' deadline=560 continued='' parts=()
all=(build tests sanitizer verify ranks curve kernels steps peer)
while (($#)); do
  case $1 in
    --output | --build | --peer | --text | --ceiling | --deadline)
      (($# >= 2)) || { echo "gpu_check: $1 needs a value" >&2; exit 2; } ;;
  esac
  case $1 in
    --peer | --text | --ceiling) [ -f "$2" ] || { echo "gpu_check: $1: there is no file $2" >&2; exit 2; } ;;
  esac
  case $1 in
    --output) output=$2; shift 2 ;;
    --build) build=$(realpath "$2"); shift 2 ;;
    --peer) peer=$(realpath "$2"); shift 2 ;;
    --text) text=$(realpath "$2"); shift 2 ;;
    --ceiling) ceiling=$(realpath "$2"); shift 2 ;;
    --deadline)
      [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || { echo "gpu_check: --deadline: $2 is no number of seconds" >&2; exit 2; }
      deadline=$2; shift 2 ;;
    --continue) continued=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) [[ " ${all[*]} " == *" $1 "* ]] || { echo "gpu_check: there is no part $1; choose among ${all[*]}" >&2; exit 2; }
       parts+=("$1"); shift ;;
  esac
done
((${#parts[@]})) || parts=("${all[@]}")

if [ -f "$root/environment.sh" ]; then  # a bundle
  . "$root/environment.sh"
  programs=$root/bin mpirun=$root/bin/orterun commit=$(cat "$root/commit") golden=$root/golden
  output=${output:-$PWD}
else
  build=${build:-$root/build/cuda}
  programs=$build mpirun=mpirun golden=$root/tests/models/golden
  commit=$(git -C "$root" describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
  output=${output:-$root/docs/results/gpu}
fi
mkdir -p "$output"
output=$(cd "$output" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
  OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none \
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

ask() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
device=$(ask name) driver=$(ask driver_version) date=$(date -u +%Y-%m-%dT%H:%MZ)
[ -n "$device" ] || { echo "gpu_check: nvidia-smi shows no GPU on this machine" >&2; exit 1; }
lexring=$programs/lexring
# A library that this machine lacks would fail every part, one after the other.
lacks=$(find "$programs" -maxdepth 1 -type f -perm -u+x -exec ldd {} + 2>&1 | grep 'not found' | sort -u)
[ -z "$lacks" ] || {
  printf 'gpu_check: libraries that the programs need and the loader does not find:\n%s\n' "$lacks" >&2
  echo "gpu_check: CUDA's come from a toolkit or a PyTorch's packages; name their folder in LD_LIBRARY_PATH" >&2
  exit 1
}
program() { find "$programs" -type f -name "$1" -perm -u+x | head -n 1; }

report=$output/gpu_check.md figures=$output/gpu_check.json
head_line="{\"device\": \"$device\", \"driver\": \"$driver\", \"commit\": \"$commit\", \"date\": "
results=() failed=() left=()
if [ -n "$continued" ]; then
  [[ $(head -n 1 "$figures" 2>/dev/null) == "$head_line"* ]] || {
    echo "gpu_check: --continue: $figures is not of $device, driver $driver, commit $commit; leave --continue out" >&2
    exit 2
  }
  mapfile -t results < <(sed -n '/^{"part": "[a-z]*", "status": 0,/{s/,$//;p}' "$figures")
  printf '\nContinued %s: `./jobs/gpu_check.sh --continue %s`.\n' "$date" "${parts[*]}" >>"$report"
else
  printf '# %s, %s\n\nDriver %s, commit %s. `./jobs/gpu_check.sh %s`.\n' "$device" "$date" "$driver" "$commit" \
    "${parts[*]}" >"$report"
fi
[ -n "$ceiling" ] || ceiling=$figures

write_figures() {
  {
    printf '%s"%s", "parts": [\n' "$head_line" "$date"
    (IFS=$'\n'; echo "${results[*]}") | sed '$!s/$/,/'
    printf ']}\n'
  } >"$figures.part"
  mv "$figures.part" "$figures"
}

# part NAME SECONDS: its output goes into the report, its lines that are JSON into the other file.
part() {
  local name=$1 status=0 begun=$SECONDS log=$work/$1.log
  [[ " ${parts[*]} " == *" $name "* ]] || return 0
  [[ "${results[*]}" != *"{\"part\": \"$name\", \"status\": 0,"* ]] || return 0
  if ((SECONDS >= deadline)); then left+=("$name"); return 0; fi
  ends=$((begun + $2 < deadline ? begun + $2 : deadline))
  printf '== %s\n' "$name"
  (set -e; "part_$name") >"$log" 2>&1  # in an || list, set -e would not count
  status=$?
  tail -n 40 "$log"
  local seconds=$((SECONDS - begun)) verdict=passed
  if ((status == 124)); then
    verdict='stopped, no time left' left+=("$name")
  elif ((status)); then
    verdict="failed (status $status)" failed+=("$name")
  fi
  {
    echo
    echo "## $name: $verdict, $seconds s"
    echo
    echo '```'
    grep -v '^{' "$log" | tail -n 120
    echo '```'
  } >>"$report"
  local lines
  lines=$(grep '^{.*}$' "$log" | paste -sd, -)
  results+=("{\"part\": \"$name\", \"status\": $status, \"seconds\": $seconds, \"lines\": [$lines]}")
  write_figures
}

# limited COMMAND...: for as long as its part may take; 124 where that is over.
limited() {
  local seconds=$((ends - SECONDS))
  ((seconds > 0)) || return 124
  timeout "$seconds" "$@"
}

# last LABEL COMMAND...: its last line, labelled; its status.
last() {
  local label=$1 line status=0
  shift
  line=$("$@" | tail -n 1) || status=$?
  echo "$label: $line"
  return "$status"
}

part_build() {
  [ ! -f "$root/environment.sh" ] || { echo "a bundle: built at commit $commit"; return; }
  limited cmake -S "$root" --preset cuda -DLEXRING_GPU_TESTS=ON -DCMAKE_CUDA_ARCHITECTURES=native
  limited cmake --build "$build"
}

part_tests() {
  local test found=0
  for test in $(find "$programs" -type f -name '*_gpu_test' -perm -u+x | sort); do
    found=1
    if [[ $test == */hopper_gpu_test && $(ask compute_cap) != 9.0 ]]; then
      echo "hopper_gpu_test: $device is no Hopper, not run"
      continue
    fi
    limited "$test" --gtest_brief=1
  done
  ((found)) || {
    echo "there are no *_gpu_test programs in $programs; configure with -DLEXRING_GPU_TESTS=ON"
    return 1
  }
}

part_sanitizer() {
  local tool test
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1) || true
  [ -n "$tool" ] || { echo "there is no compute-sanitizer on this machine: not checked"; return; }
  test=$(program backend_gpu_test)
  local tools=(memcheck racecheck)
  for check in "${tools[@]}"; do
    local status=0
    limited "$tool" --tool "$check" --error-exitcode 9 "$test" --gtest_filter='*Small*' --gtest_brief=1 \
      >"$work/$check" 2>&1 || status=$?
    if ((status)); then
      if grep -q 'Device not supported' "$work/$check"; then
        echo "compute-sanitizer does not work on this machine: not checked"
        return
      fi
      tail -n 40 "$work/$check"
      return "$status"
    fi
    echo "$check: $(tail -n 1 "$work/$check")"
  done
}

part_verify() {
  local file precision
  for file in "$golden"/*.h5; do
    for precision in fp32 bf16; do
      last "$(basename "$file") $precision" \
        limited "$lexring" verify --golden "$file" --device cuda --precision "$precision"
    done
  done
}

# Several ranks share the GPU: messages are staged through host memory.
part_ranks() {
  local file mesh
  for file in "$golden"/*.h5; do
    for mesh in "2 --mesh.cp 2" "2 --mesh.tp 2" "4 --mesh.cp 2 --mesh.tp 2" "4 --mesh.cp 4"; do
      # shellcheck disable=SC2086
      last "$(basename "$file"), ranks $mesh" \
        limited env OMP_NUM_THREADS=$((OMP_NUM_THREADS / ${mesh%% *} > 0 ? OMP_NUM_THREADS / ${mesh%% *} : 1)) \
        "$mpirun" -n ${mesh%% *} "$lexring" verify --golden "$file" --device cuda ${mesh#* }
    done
  done
}

# The same run on cpu and cuda: losses of 30 steps.
part_curve() {
  local device
  [ -n "$text" ] || {
    text=$work/text.txt
    cat "$root"/README.md "$root"/configs/* "$root"/*/README.md >"$text" 2>/dev/null || true
  }
  limited "$lexring" prepare --input "$text" --output "$work/text.h5" >/dev/null
  for device in cpu cuda; do
    limited "$lexring" train --config "$root/configs/quickstart.ini" --device "$device" \
      --data.train "$work/text.h5" --data.valid "" --train.minutes 0 --train.steps 30 --train.precision fp32 \
      --checkpoint.directory "$work/run_$device" --resume none >/dev/null
    sed -nE 's/.*"loss":([0-9.eE+-]+).*/\1/p' "$work/run_$device/metrics.jsonl" >"$work/$device.losses"
  done
  paste "$work/cpu.losses" "$work/cuda.losses" | awk '
    { d = ($2 - $1) / $1; d = d < 0 ? -d : d; if (d > worst) worst = d; print "step", NR, "cpu", $1, "cuda", $2 }
    END {
      if (NR < 30) { print "only", NR, "steps"; exit 1 }
      print "largest relative difference", worst
      exit worst > 1e-4
    }'
}

part_kernels() { limited "$(program device_bench)" cuda 0.3; }

# bench prints one JSON line; mfu is against the large product that `kernels` measured, in this run or an earlier one.
part_steps() {
  local keys peak against=()
  peak=$(cat "$ceiling" 2>/dev/null | tr '{' '\n' | grep '"kernel":"product bf16"' |
    sed -nE 's/.*"teraflops":([0-9.]+).*/\1/p' | head -n 1) || true
  [ -z "$peak" ] || against=(--ceiling "$peak")
  limited "$lexring" bench --config "$root/configs/lex_paper.ini" --device cuda --model.vocab 50304 \
    --train.length 1024 --train.batch 32 --train.micro_batch 32 --train.recompute none "${against[@]}"
  for keys in "8192 4 --steps 8" "65536 1 --warmup 1 --steps 3"; do
    # shellcheck disable=SC2086
    limited "$lexring" bench --config "$root/configs/lex_1b3.ini" --device cuda --model.vocab 50304 \
      --train.micro_batch 1 --train.length ${keys/ / --train.batch } "${against[@]}"
  done
}

# Its libraries are its own: a bundle's must not come before them.
part_peer() {
  [ -n "$peer" ] || { echo "no --peer given: not measured"; return; }
  limited env -u LD_LIBRARY_PATH python3 "$peer" --device cuda --compile --layers 24 --width 1024 --heads 16 \
    --vocab 50304 --length 1024 --batch 32 --dtype bf16
}

part build 300
part tests 120
part sanitizer 60
part verify 60
part ranks 60
part curve 60
part kernels 60
part steps 120
part peer 90

echo "written: $report, $figures"
((${#left[@]} == 0)) || {
  printf '\nNo time was left for: %s.\n' "${left[*]}" >>"$report"
  echo "no time was left for: ${left[*]}; run again with --continue" >&2
}
((${#failed[@]} == 0)) || echo "failed: ${failed[*]}" >&2
((${#left[@]} + ${#failed[@]} == 0))
