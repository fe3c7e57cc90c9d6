#!/usr/bin/env bash
# Packs what was built into one archive that runs where nothing can be installed: binary, tests and benchmarks for a
# GPU, configurations, golden cases, and the shared libraries that a bare node lacks (MPI, HDF5, Boost, oneDNN).
#
#   ./jobs/bundle.sh [--build DIR] [--golden FILE.h5]... [OUTPUT.tar.gz]
#
# DIR: build/cuda, else build/release. On the other machine: tar xf OUTPUT.tar.gz; lexring-bundle/jobs/gpu_check.sh, or
# lexring-bundle/lexring, or lexring-bundle/mpirun -n 2 lexring-bundle/lexring. CUDA's, cuDNN's and NCCL's libraries
# come from there: a toolkit, or a PyTorch's packages.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

root=$(cd "$(dirname "$0")/.." && pwd)
build='' output=lexring-bundle.tar.gz golden=("$root"/tests/models/golden/*.h5)
while (($#)); do
  case $1 in --build | --golden) (($# >= 2)) || { echo "bundle: $1 needs a value" >&2; exit 2; } ;; esac
  case $1 in --golden) [ -f "$2" ] || { echo "bundle: --golden: there is no file $2" >&2; exit 2; } ;; esac
  case $1 in
    --build) build=$(realpath "$2"); shift 2 ;;
    --golden) golden+=("$(realpath "$2")"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "bundle: there is no option $1" >&2; usage >&2; exit 2 ;;
    *) output=$1; shift ;;
  esac
done
if [ -z "$build" ]; then
  for build in "$root/build/cuda" "$root/build/release"; do [ ! -x "$build/lexring" ] || break; done
fi
[ -x "$build/lexring" ] || {
  echo "bundle: $build holds no lexring; build first, e.g. cmake --preset cuda && cmake --build --preset cuda" >&2
  exit 2
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/lexring-bundle
mkdir -p "$bundle"/{bin,lib,jobs,golden,openmpi/etc}

cp "$build/lexring" "$bundle/bin/"
for program in $(find "$build/tests" -type f -perm -u+x \( -name '*_gpu_test' -o -name device_bench \)); do
  cp "$program" "$bundle/bin/"
done
strip --strip-debug "$bundle"/bin/*
cp -r "$root/configs" "$bundle/"
cp "$root/jobs/gpu_check.sh" "$bundle/jobs/"
cp "${golden[@]}" "$bundle/golden/"
git -C "$root" describe --always --dirty --abbrev=12 >"$bundle/commit" 2>/dev/null || echo unknown >"$bundle/commit"

# Open MPI finds its plugins, and they find theirs, by variables that the launcher sets.
mpi=$(dirname "$(ldd "$build/lexring" | awk '/libmpi\.so/ {print $3}')")
mpi_real=$(dirname "$(readlink -f "$mpi/libmpi.so.40")")
plugins=$(find "$mpi_real" /usr/lib -type d -name openmpi3 -print -quit 2>/dev/null)
pmix=$(find /usr/lib -type d -path '*pmix2/lib/pmix' -print -quit 2>/dev/null)
mkdir -p "$bundle/openmpi/plugins" "$bundle/openmpi/pmix"
# One machine, or plain TCP between several: fabrics bring their own libraries, which the target has or has not.
for plugin in "$plugins"/*.so; do
  case $(basename "$plugin") in
    *ucx* | *ofi* | *openib* | *verbs* | *psm* | *usnic* | *portals* | *cuda*) ;;
    *lustre* | *pvfs* | *slurm* | *gridengine* | *tm.so) ;;
    *) cp "$plugin" "$bundle/openmpi/plugins/" ;;
  esac
done
[ -z "$pmix" ] || cp "$pmix"/*.so "$bundle/openmpi/pmix/"
cp -rL /usr/share/openmpi "$bundle/openmpi/share" 2>/dev/null || mkdir -p "$bundle/openmpi/share"
cp "$(readlink -f "$(command -v orterun)")" "$bundle/bin/orterun"
cp "$(command -v orted)" "$bundle/bin/orted"

# Libraries of all that, but those of every system, and NVIDIA's.
for object in "$bundle"/bin/* "$bundle"/openmpi/plugins/*.so "$bundle"/openmpi/pmix/*.so; do
  ldd "$object" 2>/dev/null || true
done |
  awk '/=> \// {print $1, $3}' | sort -u |
  while read -r name path; do
    case $name in
      ld-linux* | libc.so* | libm.so* | libpthread.so* | libdl.so* | librt.so* | libutil.so*) ;;
      libresolv.so* | libnss_* | libanl.so*) ;;
      libcuda.so* | libcudart.so* | libcublas*.so* | libcudnn*.so* | libnccl.so* | libnvrtc*.so* | libnvidia*.so*) ;;
      *) cp -L "$path" "$bundle/lib/$name" ;;
    esac
  done

cat >"$bundle/environment.sh" <<'EOF'
# Sourced: where this bundle's libraries and NVIDIA's are.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OPAL_PREFIX=$here/openmpi OPAL_BINDIR=$here/bin OPAL_SYSCONFDIR=$here/openmpi/etc
export OPAL_PKGDATADIR=$here/openmpi/share OPAL_DATADIR=$here/openmpi
export OMPI_MCA_mca_base_component_path=$here/openmpi/plugins PMIX_MCA_mca_base_component_path=$here/openmpi/pmix
export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent-false}
nvidia=()
for folder in /usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu; do
  [ -d "$folder" ] && nvidia+=("$folder")
done
# A PyTorch's packages hold them as well.
if command -v python3 >/dev/null; then
  while read -r folder; do nvidia+=("$folder"); done < <(python3 - <<'PY' 2>/dev/null || true
import glob, os, sys, sysconfig
for base in {sysconfig.get_paths()["purelib"], *sys.path}:
    for folder in sorted(glob.glob(os.path.join(base, "nvidia", "*", "lib"))):
        print(folder)
PY
  )
fi
export LD_LIBRARY_PATH=$here/lib$(printf ':%s' "${nvidia[@]}")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PATH=$here/bin:$PATH
EOF
for program in lexring mpirun; do
  cat >"$bundle/$program" <<EOF
#!/usr/bin/env bash
. "\$(dirname "\$(readlink -f "\${BASH_SOURCE[0]}")")/environment.sh"
exec "\$here/bin/${program/mpirun/orterun}" "\$@"
EOF
  chmod +x "$bundle/$program"
done

mkdir -p "$(dirname "$output")"
tar -C "$work" -cf - lexring-bundle | gzip -6 >"$output.part"
mv "$output.part" "$output"
echo "$output: $(($(stat -c %s "$output") / 1000000)) MB, commit $(cat "$bundle/commit")"
