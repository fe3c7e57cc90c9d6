#!/usr/bin/env bash
# jobs/gpu_check.sh where there is no GPU: programs that only print stand for the built ones, and for nvidia-smi.
#   gpu_check_test.sh SOURCE
set -euo pipefail

script=$1/jobs/gpu_check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/build" "$work/path"
stub() { printf '#!/usr/bin/env bash\n%s\n' "$2" >"$1"; chmod +x "$1"; }
stub "$work/path/nvidia-smi" 'echo "a device"'
stub "$work/build/device_bench" 'echo "{\"kernel\":\"product bf16\",\"teraflops\":612.5}"'
stub "$work/build/lexring" 'echo "{\"called\":\"$*\"}"'
stub "$work/build/backend_gpu_test" 'sleep 100'
export PATH=$work/path:$PATH

fail() { echo "$*" >&2; cat "$work"/*/gpu_check.json "$work/log" >&2; exit 1; }
check() { "$script" --build "$work/build" --output "$work/$1" "${@:2}" >"$work/log" 2>&1; }
parts() {
  python3 -c 'import json, sys
print(*("%s:%d" % (part["part"], part["status"]) for part in json.load(open(sys.argv[1]))["parts"]))' \
    "$work/$1/gpu_check.json"
}

# A part that takes too long ends at the deadline; what was before it is written, what comes after it is named.
begun=$SECONDS
check first --deadline 3 kernels tests steps && fail "a part that was stopped passed"
((SECONDS - begun < 20)) || fail "the deadline was not kept"
[[ $(parts first) == "tests:124" ]] || fail "not what ran within the deadline: $(parts first)"
grep -q 'no time was left for: tests kernels steps' "$work/log" || fail "what is left is not named"

# Its continuation does the rest and repeats nothing that passed; the ceiling of kernels is that of steps.
stub "$work/build/backend_gpu_test" 'echo passed'
check first --continue kernels tests || fail "the continuation failed"
stub "$work/build/device_bench" 'echo "{\"kernel\":\"product bf16\",\"teraflops\":1.5}"'
check first --continue kernels steps || fail "the second continuation failed"
[[ $(parts first) == "tests:0 kernels:0 steps:0" ]] ||
  fail "parts after continuing: $(parts first)"
[[ $(grep -o -e '--ceiling 612.5' "$work/first/gpu_check.json" | wc -l) == 3 ]] || fail "steps without a ceiling"
grep -q -e '--train.length 65536 --train.batch 1 --warmup 1 --steps 3' "$work/first/gpu_check.json" || fail "64k steps"
[[ $(grep -c '^# ' "$work/first/gpu_check.md") == 1 ]] || fail "a continuation begins no new report"

# An earlier run's ceiling by its file, another device's results refused.
check second --ceiling "$work/first/gpu_check.json" steps || fail "steps alone failed"
grep -q -e '--ceiling 612.5' "$work/second/gpu_check.json" || fail "the file's ceiling was not used"
stub "$work/path/nvidia-smi" 'echo "another device"'
check first --continue kernels && fail "results of two devices in one file"
grep -q 'is not of another device' "$work/log" || fail "the refusal says not why"
echo passed
