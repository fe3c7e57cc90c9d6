#!/usr/bin/env bash
# From nothing to an extrapolation table: installs, builds, prepares text, trains a small LEX model for about five minutes with ring attention
# over two ranks, evaluates it at 1 to 16 times its training length, and writes a report. What is there already is used again.
#
#   ./jobs/quickstart.sh [--config FILE.ini]... [--name NAME] [--minutes M] [--ranks N] [TEXT...]
#
# TEXT: .txt, .md, .pod, .jsonl files (each also .zst) or directories of them; without any, the POD files of Debian's perl-doc.
# --config adds a configuration to configs/quickstart.ini, e.g. --config configs/quickstart_rope.ini --name rope; results are in runs/NAME.
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

root=$(cd "$(dirname "$0")/.." && pwd)
name=quickstart minutes=5 ranks=2
configs=() texts=()
while (($#)); do
  case $1 in
    --config) configs+=("$(realpath "$2")"); shift 2 ;;
    --name) name=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --ranks) ranks=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    --*) echo "quickstart: there is no option $1" >&2; usage >&2; exit 2 ;;
    *) [ -e "$1" ] || { echo "quickstart: $1 does not exist; give text files or directories" >&2; exit 2; }
       texts+=("$(realpath "$1")"); shift ;;
  esac
done
cd "$root"
started=$SECONDS
step() { printf '== %s (%d:%02d)\n' "$*" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

step "packages"
./jobs/packages.sh
((${#texts[@]})) || dpkg -s perl-doc >/dev/null 2>&1 || ./jobs/packages.sh perl-doc

step "build"
[ -f build/release/build.ninja ] || cmake --preset release -DLEXRING_TESTS=OFF
cmake --build build/release --target lexring
lexring=$root/build/release/lexring

run=runs/$name
mkdir -p "$run/text"

# Every tenth file is held out; a single file gives its last tenth of lines.
split_corpus() {
  local files=() i
  if ((${#texts[@]})); then
    mapfile -t files < <(for text in "${texts[@]}"; do find -L "$text" -name '.?*' ! -path "$text" -prune -o -type f -print | LC_ALL=C sort; done |
      grep -E '\.(txt|md|pod|jsonl)(\.zst)?$')
  else
    mapfile -t files < <(dpkg -L perl-doc | grep '\.pod$' | LC_ALL=C sort)
  fi
  ((${#files[@]})) || { echo "quickstart: no .txt, .md, .pod or .jsonl file among what was given" >&2; exit 1; }
  train=() valid=()
  if ((${#files[@]} == 1)); then
    local file=${files[0]} base read=cat lines
    case $file in *.zst) read=zstdcat; command -v zstdcat >/dev/null || ./jobs/packages.sh zstd ;; esac
    base=$(basename "${file%.zst}")
    lines=$($read "$file" | wc -l)
    head -n $((lines * 9 / 10)) < <($read "$file") >"$run/text/train.${base##*.}"  # not a pipe: head leaves before the writer has ended
    $read "$file" | tail -n +$((lines * 9 / 10 + 1)) >"$run/text/valid.${base##*.}"
    train=("$run/text/train.${base##*.}") valid=("$run/text/valid.${base##*.}")
    return
  fi
  for i in "${!files[@]}"; do
    if ((i % 10 == 9 || (${#files[@]} < 10 && i == ${#files[@]} - 1))); then valid+=("${files[i]}"); else train+=("${files[i]}"); fi
  done
}

# The data sets belong to the text they were made of: names, sizes and times of its files.
corpus_key=$(if ((${#texts[@]})); then find -L "${texts[@]}" -type f -printf '%p %s %T@\n' | LC_ALL=C sort; else dpkg-query -W perl-doc; fi |
  cksum | cut -d' ' -f1)
train_data=runs/data/train-$corpus_key.h5 valid_data=runs/data/valid-$corpus_key.h5
step "text -> tokens"
if [ -f "$train_data" ] && [ -f "$valid_data" ]; then
  echo "$train_data and $valid_data are there already"
else
  split_corpus
  mkdir -p runs/data
  "$lexring" prepare --overwrite --input "${train[@]}" --output "$train_data"
  "$lexring" prepare --overwrite --input "${valid[@]}" --output "$valid_data"
fi

cores=$(nproc)
threads=$((cores / ranks > 0 ? cores / ranks : 1))
mpi=(mpirun -n "$ranks" --bind-to none -x "OMP_NUM_THREADS=$threads")
[ "$(id -u)" = 0 ] && mpi+=(--allow-run-as-root)
((cores < ranks)) && mpi+=(--mca mpi_yield_when_idle 1 -x OMP_WAIT_POLICY=passive)  # who waits leaves the core to others
mpi+=(--oversubscribe)  # a machine that counts hardware threads differently from mpirun

step "training for about $minutes minutes, every sequence shared by $ranks ranks (ring attention)"
keys=(--config configs/quickstart.ini)
for config in "${configs[@]:+${configs[@]}}"; do keys+=(--config "$config"); done
"${mpi[@]}" "$lexring" train "${keys[@]}" --data.train "$train_data" --data.valid "$valid_data" --train.minutes "$minutes" \
  --mesh.cp "$ranks" --mesh.ulysses 1 --sequence.exchange ring --checkpoint.directory "$run"

step "evaluation at 1, 2, 4, 8 and 16 times the training length"
length=$(sed -n '/^\[train\]/,/^\[/s/^length = //p' "$run/config.ini")
"${mpi[@]}" "$lexring" evaluate --checkpoint "$run" --data "$valid_data" \
  --lengths "$length,$((2 * length)),$((4 * length)),$((8 * length)),$((16 * length))" --patterns causal,blockwise --output "$run"

step "done"
echo "the report: $root/$run/report.html"
