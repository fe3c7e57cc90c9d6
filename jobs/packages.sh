#!/usr/bin/env bash
# Installs what lexring needs from Debian or Ubuntu, and only what is missing: as root, or with sudo.
#
#   ./jobs/packages.sh [--tests] [PACKAGE...]
#
# --tests: also what only tests use; as root, where no Slurm is installed, with a Slurm for tests/slurm. PACKAGE:
# further packages.
set -euo pipefail

# ocl-icd-opencl-dev: the CMake configuration of libdnnl-dev looks for OpenCL, which Debian only recommends.
build=(
  g++ cmake ninja-build pkg-config
  libopenmpi-dev openmpi-bin
  libhdf5-dev libboost-program-options-dev libdnnl-dev ocl-icd-opencl-dev libfmt-dev nlohmann-json3-dev
  libsimdjson-dev libzstd-dev libxxhash-dev libpcre2-dev libutf8proc-dev
)
tests=(libgtest-dev libbenchmark-dev libboost-context-dev python3-h5py clang-format)
[ "$(uname -m)" = x86_64 ] && tests+=(qemu-user)
if [ "$(id -u)" -eq 0 ] && ! command -v slurmctld >/dev/null; then
  tests+=(slurmctld slurmd slurm-client munge iproute2)
fi

wanted=("${build[@]}")
for argument in "$@"; do
  case $argument in
    --tests) wanted+=("${tests[@]}") ;;
    -*) echo "packages.sh: unknown option $argument; see the top of the file" >&2; exit 2 ;;
    *) wanted+=("$argument") ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "packages.sh: this is neither Debian nor Ubuntu; install what corresponds to: ${wanted[*]}" >&2
  exit 1
fi

missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "packages.sh: these packages are missing: ${missing[*]}. Run this script as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
  "${missing[@]}" >/dev/null
