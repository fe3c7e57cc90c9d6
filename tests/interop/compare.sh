#!/usr/bin/env bash
# Compares lexring with other people's programs from PyPI; see README.md beside this file.
#
#   tests/interop/compare.sh [--mb N] [--fuzz N] TEXT.jsonl...
#
# --mb: megabytes of text, 50 unless given; --fuzz: short strings, 1000000. LEXRING: the binary, build/release/lexring.
set -euo pipefail
cd "$(dirname "$0")/../.."
(($#)) || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
place=build/interop
python=$place/venv/bin/python
if [ ! -x "$python" ]; then python3 -m venv "$place/venv"; fi
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers h5py numpy zstandard
"$python" tests/interop/tokenizers_ids.py --binary "${LEXRING:-build/release/lexring}" --place "$place" "$@"
