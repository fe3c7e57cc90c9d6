#!/usr/bin/env bash
# The kernel for Hopper, compiled for sm_90a: no stack and no spills, products that overlap (registers.sh fails
# otherwise); where there is cuobjdump, as many products as are written: per call of it and of its loop, scores in
# width / 16 steps and sums in 8, and again 8 at the end.
set -euo pipefail
table=$("$(dirname "$0")/../../../speed/registers.sh" --arch 90a framework/backend/cuda/hopper/attention_forward.cu)
echo "$table"
awk -F' [|] ' '
  /hopper_forward</ {
    kernels++
    width = $1; gsub(/[^0-9]/, "", width)
    if ($3 + $4 + $5 != 0) { print "width " width ": a stack or spills"; wrong = 1 }
    if (NF > 6 && $7 != 2 * width / 16 + 16) { print "width " width ": " $7 " products"; wrong = 1 }
  }
  END { if (kernels != 4) print kernels + 0 " kernels instead of 4"; exit wrong || kernels != 4 }' <<<"$table"
