#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: on a fresh Debian or Ubuntu as root or with sudo. Ends with
# CTest's summary.
#
#   ./tests/run.sh [PRESET] [CTEST ARGUMENT...]      PRESET: release (default), debug, cuda, asan or tsan
#
# Without a GPU, kernels for one are tested as plain C++ only; `CUDAARCHS=90a-real ./tests/run.sh cuda` also compiles
# them with nvcc, here for H100. Non-zero when a test fails. With CI=true also when one could not run here: it says why,
# and is counted as skipped or not run.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true

packages=(--tests)
# The golden cases are written by a reference in PyTorch that may lie beside the checkout.
if [ -d ../shared/reference ]; then packages+=(python3-torch python3-numpy); fi
./jobs/packages.sh "${packages[@]}"

cmake --preset "$preset" -DLEXRING_TESTS=ON
cmake --build --preset "$preset"

report=$PWD/build/$preset/tests.xml
rm -f "$report"
status=0
# Ranks wait for each other most of the time: one test more than there are processors. Many at once need memory.
at_once=$(($(nproc) < 8 ? $(nproc) + 1 : 9))
ctest --preset "$preset" -j "$at_once" --output-junit "$report" "$@" || status=$?
if [ "$status" -eq 0 ] && [ "${CI:-}" = true ]; then
  not_run=$(sed -nE '/<testsuite /,/>/{s/.*(skipped|disabled)="([0-9]+)".*/\2/p}' "$report" |
    paste -sd+ | sed 's/^$/0/')
  if [ $((not_run)) -ne 0 ]; then
    echo "tests/run.sh: $((not_run)) tests could not run here, which CI=true does not allow; they are listed above" >&2
    status=1
  fi
fi
exit "$status"
