#!/usr/bin/env bash
# From nothing to an extrapolation table: installs, builds, prepares text, trains a small LEX model for about five
# minutes with ring attention over two ranks, evaluates it at 1 to 16 times its training length, and writes a report.
# What is there already is used again.
#
#   ./jobs/quickstart.sh [--config FILE.ini]... [--name NAME] [--minutes M] [--ranks N] [TEXT...]
#
# TEXT: .txt, .md, .pod, .jsonl files (each also .zst) or directories of them; without any, the POD files of Debian's
# perl-doc.
# --config adds a configuration to configs/quickstart.ini, e.g. --config configs/quickstart_rope.ini --name rope;
# results are in runs/NAME. A training that was stopped by a signal ends this script too, with exit code 75; the same
# command goes on from there.
# CUDA is built in where nvcc and a GPU are; before, `cmake --preset release -DLEXRING_CUDA=ON` (or OFF) says otherwise.
set -euo pipefail

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
refuse() { echo "quickstart: $*" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
name=quickstart minutes=5 ranks=2
configs=() texts=()
while (($#)); do
  case $1 in --config | --name | --minutes | --ranks) (($# >= 2)) || refuse "$1 needs a value" ;; esac
  case $1 in --config) [ -f "$2" ] || refuse "--config: there is no file $2" ;; esac
  case $1 in
    --config) configs+=("$(realpath "$2")"); shift 2 ;;
    --name) name=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --ranks) ranks=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "quickstart: there is no option $1" >&2; usage >&2; exit 2 ;;
    *) [ -e "$1" ] || refuse "$1 does not exist; give text files or directories"
       texts+=("$(realpath "$1")"); shift ;;
  esac
done
[[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] ||
  refuse "--name $name: results are in runs/NAME; use letters, digits, '.', '_' and '-'"
[[ $minutes =~ ^[0-9]+([.][0-9]+)?$ && $minutes =~ [1-9] ]] ||
  refuse "--minutes $minutes: give a number above 0, e.g. 5 or 0.5"
[[ $ranks =~ ^[1-9][0-9]{0,3}$ ]] || refuse "--ranks $ranks: give how many processes share a sequence, 1 or more"
files=()
if ((${#texts[@]})); then
  mapfile -t files < <(for text in "${texts[@]}"; do
      find -L "$text" -not -path "$text" -name '.*' -prune -o -type f -size +0 -print | LC_ALL=C sort
    done | grep -E '\.(txt|md|pod|jsonl)(\.zst)?$')
  ((${#files[@]})) ||
    refuse "among what was given there is no .txt, .md, .pod or .jsonl file (each also .zst) with anything in it"
fi
cd "$root"
started=$SECONDS
step() { printf '== %s (%d:%02d)\n' "$*" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

step "packages"
./jobs/packages.sh
((${#texts[@]})) || dpkg -s perl-doc >/dev/null 2>&1 || ./jobs/packages.sh perl-doc

step "build"
[ -f build/release/build.ninja ] || cmake --preset release -DLEXRING_TESTS=OFF  # what is configured stays as it is
cmake --build build/release --target lexring
lexring=$root/build/release/lexring

run=runs/$name
mkdir -p "$run/text"

# split_at FILE BYTE: the nearest place before that byte where no UTF-8 character is cut.
split_at() {
  local byte=$2
  while ((byte > 0)) && (($(tail -c +$((byte + 1)) "$1" | head -c 1 | od -An -tu1) / 64 == 2)); do
    byte=$((byte - 1))
  done
  echo "$byte"
}

# A document of JSON lines becomes two, with the first nine tenths of its text and the rest: perl-base is on every
# Debian.
split_json_document() {
  perl -e '
    local $/; my $json = <STDIN>; my @best = (0);
    while ($json =~ /"text"\s*:\s*"/g) {
      my ($start, @ends) = (pos $json);
      push @ends, pos $json while $json =~ /\G(?:[^"\\]{1,64}|\\u[dD][89abAB]..\\u....|\\u....|\\.)/gcs;
      @best = ($ends[-1] - $start, $start, @ends) if @ends && $ends[-1] - $start > $best[0];
    }
    my ($length, $start, @ends) = @best;
    @ends > 1 or die "quickstart: there is no text to divide in the one document that was given\n";
    my ($cut) = reverse grep { $_ <= $start + 0.9 * $length } @ends;
    $cut = $ends[0] unless $cut;
    $cut-- while (ord(substr $json, $cut, 1) & 0xC0) == 0x80;
    for ([$ARGV[0], $start, $cut], [$ARGV[1], $cut, $start + $length]) {
      open my $file, ">", $_->[0] or die "quickstart: $_->[0]: $!\n";
      print $file "{\"text\":\"", substr($json, $_->[1], $_->[2] - $_->[1]), "\"}\n";
      close $file or die "quickstart: $_->[0]: $!\n";
    }' "$2" "$3" <"$1"
}

# split_file FILE: its last tenth is held out: documents of JSON lines, and bytes of anything else.
split_file() {
  local file=$1 kind=${1%.zst} documents bytes
  kind=${kind##*.}
  train=("$run/text/train.$kind") valid=("$run/text/valid.$kind")
  if [[ $file = *.zst ]]; then
    command -v zstd >/dev/null || ./jobs/packages.sh zstd
    zstd -dqf "$file" -o "$run/text/whole.$kind"
    file=$run/text/whole.$kind
  fi
  documents=$(LC_ALL=C grep -ac '[^[:space:]]' "$file" || true)
  if [ "$kind" = jsonl ] && ((documents > 1)); then
    LC_ALL=C grep -a '[^[:space:]]' "$file" >"$run/text/documents"
    head -n $((documents - (documents + 9) / 10)) "$run/text/documents" >"${train[0]}"
    tail -n $(((documents + 9) / 10)) "$run/text/documents" >"${valid[0]}"
    rm "$run/text/documents"
  elif [ "$kind" = jsonl ]; then
    split_json_document "$file" "${train[0]}" "${valid[0]}"
  else
    bytes=$(split_at "$file" $(($(stat -Lc %s "$file") * 9 / 10)))
    head -c "$bytes" "$file" >"${train[0]}"
    tail -c +$((bytes + 1)) "$file" >"${valid[0]}"
  fi
}

# Every tenth file is held out, of fewer than ten the last.
split_corpus() {
  local i
  ((${#texts[@]})) || mapfile -t files < <(dpkg -L perl-doc | grep '\.pod$' | LC_ALL=C sort)
  ((${#files[@]})) || { echo "quickstart: perl-doc holds no POD files here; give text files" >&2; exit 1; }
  train=() valid=()
  if ((${#files[@]} == 1)); then
    split_file "${files[0]}"
    return
  fi
  for i in "${!files[@]}"; do
    if ((i % 10 == 9 || (${#files[@]} < 10 && i == ${#files[@]} - 1))); then
      valid+=("${files[i]}")
    else
      train+=("${files[i]}")
    fi
  done
}

# The data sets belong to the text they were made of: names, sizes and times of its files.
corpus_key=$(
  if ((${#texts[@]})); then
    find -L "${texts[@]}" -type f -printf '%p %s %T@\n' | LC_ALL=C sort
  else
    dpkg-query -W perl-doc
  fi | cksum | cut -d' ' -f1
)
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
# Who waits leaves the core to others.
((cores < ranks)) && mpi+=(--mca mpi_yield_when_idle 1 -x OMP_WAIT_POLICY=passive)
mpi+=(--oversubscribe)  # a machine that counts hardware threads differently from mpirun

step "training for about $minutes minutes, every sequence shared by $ranks ranks (ring attention)"
keys=(--config configs/quickstart.ini)
for config in "${configs[@]:+${configs[@]}}"; do keys+=(--config "$config"); done
"${mpi[@]}" "$lexring" train "${keys[@]}" --data.train "$train_data" --data.valid "$valid_data" \
  --train.minutes "$minutes" --mesh.cp "$ranks" --mesh.ulysses 1 --sequence.exchange ring \
  --checkpoint.directory "$run"

step "evaluation at 1, 2, 4, 8 and 16 times the training length"
length=$(sed -n '/^\[train\]/,/^\[/s/^length = //p' "$run/config.ini")
# On a slow machine, ten readings of as many tokens as two minutes or so allow, where a forward pass takes a third of a
# training step: whole windows of each length, 16 at least, and no more than there are (two bytes each, beside at most
# 64 KiB of attributes).
longest=$((16 * length)) budget=()
speed=$(tail -n 1 "$run/metrics.jsonl" 2>/dev/null | sed -n 's/.*"tokens_per_second":\([0-9]*\).*/\1/p' || true)
windows=$((${speed:-1000000} * 3 * 120 / 10 / longest))
windows=$((windows < 16 ? 16 : windows))
if ((windows < 64 && 2 * windows * longest + 65536 <= $(stat -L -c %s "$valid_data"))); then
  budget=(--tokens $((windows * longest)))
fi
"${mpi[@]}" "$lexring" evaluate --checkpoint "$run" --data "$valid_data" "${budget[@]:+${budget[@]}}" \
  --lengths "$length,$((2 * length)),$((4 * length)),$((8 * length)),$((16 * length))" \
  --patterns causal,blockwise --output "$run" --overwrite

step "done"
echo "the report: $root/$run/report.html"
