#!/usr/bin/env bash
# Registers, stack, spills and static facts of every CUDA kernel, as ptxas reports them: one Markdown table per
# architecture. Needs nvcc, no GPU.
#
#   ./tests/speed/registers.sh [--arch "80 90a"] [FILE.cu...]     FILE: all of framework/backend/cuda
#
# Where cuobjdump is found (PATH or CUOBJDUMP), also how many instructions of the tensor cores (HMMA; wgmma: HGMMA), of
# ldmatrix (LDSM), of cp.async (LDGSTS) and of bulk tensor copies (UTMALDG) a kernel has. Ends with an error where ptxas
# says that products of a warpgroup wait for each other, or that registers are not dealt out anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
architectures="80 90a" files=() all=
while (($#)); do
  case $1 in --arch) (($# >= 2)) || { echo "registers: --arch needs a value, e.g. \"80 90a\"" >&2; exit 2; } ;; esac
  case $1 in
    --arch) architectures=$2; shift 2 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) files+=("$1"); shift ;;
  esac
done
((${#files[@]})) || all=1 files=(framework/backend/cuda/*.cu parallel/comm/gpu/*.cu)
cuobjdump=${CUOBJDUMP:-$(command -v cuobjdump || true)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
short() {
  c++filt | sed -E -e 's/lexring::cuda:://g; s/\(anonymous namespace\):://g; s/lexring:://g; s/^void //' \
    -e '/</ s/>\(.*$/>/; /</! s/\(.*//'
}

for architecture in $architectures; do
  echo "sm_$architecture"
  echo
  counted="HMMA | HGMMA | LDSM | LDGSTS | UTMALDG |"
  echo "| kernel | registers | stack | spill stores | spill loads |${cuobjdump:+ $counted}"
  echo "|---|---|---|---|---|${cuobjdump:+---|---|---|---|---|}"
  of_this=("${files[@]}")
  [ -z "$all" ] || [ "$architecture" != 90a ] || of_this+=(framework/backend/cuda/hopper/*.cu)
  for file in "${of_this[@]}"; do
    nvcc -std=c++20 -O3 -DNDEBUG -I. -DFMT_USE_CONSTEXPR=1 --expt-relaxed-constexpr -Werror all-warnings \
      -Xcompiler -Wall,-Wextra,-Wshadow,-fPIC -Xptxas -v -gencode "arch=compute_$architecture,code=sm_$architecture" \
      -c "$file" -o "$work/kernel.o" 2>"$work/ptxas" || {
      cat "$work/ptxas" >&2
      exit 1
    }
    ! grep -E 'Potential Performance Loss|setmaxnreg' "$work/ptxas" >&2 || exit 1
    awk '
      /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
      /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
      /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/)
        print name, substr($0, RSTART + 5, RLENGTH - 5), stack, stores, loads
      }' "$work/ptxas" | sort >"$work/kernels"
    if [ -n "$cuobjdump" ]; then
      "$cuobjdump" --dump-sass "$work/kernel.o" | awk '
        /Function :/ { name = $NF; names[name] }
        /HMMA/ { hmma[name]++ } /HGMMA/ { hgmma[name]++ } /LDSM/ { ldsm[name]++ } /LDGSTS/ { ldgsts[name]++ }
        /UTMALDG/ { utmaldg[name]++ }
        END {
          for (name in names)
            print name, hmma[name] + 0, hgmma[name] + 0, ldsm[name] + 0, ldgsts[name] + 0, utmaldg[name] + 0
        }' |
        sort >"$work/instructions"
      join "$work/kernels" "$work/instructions" >"$work/joined" && mv "$work/joined" "$work/kernels"
    fi
    while read -r name numbers; do echo "| \`$(short <<<"$name")\` | ${numbers// / | } |"; done <"$work/kernels"
  done
  echo
done
