#!/usr/bin/env bash
# fresh.sh LEXRING REFERENCE_DIR: writes all golden cases with a random seed and verifies them on both devices in every
# precision.
# Exit code 77: this machine has no Python with torch and h5py; says so.
set -euo pipefail
lexring=$1
reference=$2
seed=${3:-$((RANDOM + 1))}
python=/usr/bin/python3
if ! "$python" -c 'import h5py, torch' 2>/dev/null; then
  echo "skipped: $python lacks torch or h5py; install python3-torch and python3-h5py"
  exit 77
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
echo "golden seed $seed"
(cd "$reference" && PYTHONDONTWRITEBYTECODE=1 "$python" golden.py "$directory/golden.h5" --seed "$seed")
for how in "reference fp64" "reference fp32" "cpu fp32" "cpu bf16"; do
  read -r device precision <<< "$how"
  echo "--- $device $precision"
  "$lexring" verify --golden "$directory/golden.h5" --device "$device" --precision "$precision"
done
