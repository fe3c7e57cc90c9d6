#!/usr/bin/env bash
# clang_format.sh ROOT CLANG_FORMAT: fails, and says where, when a file is not as .clang-format has it.
set -euo pipefail
cd "$1"
find framework parallel models datasets jobs tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' |
  xargs "$2" --dry-run -Werror
