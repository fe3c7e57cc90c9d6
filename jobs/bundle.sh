#!/usr/bin/env bash
# Packs what was built into one archive that runs where nothing can be installed: binary, tests and benchmarks for a
# GPU, configurations, golden cases, and the shared libraries that a bare node lacks (MPI, HDF5, Boost, oneDNN).
#
#   ./jobs/bundle.sh [--build DIR] [--arch ARCHITECTURES] [--no-nccl] [--golden FILE.h5]... [OUTPUT.tar.gz|xz]
#
# DIR: build/cuda, else build/release. With --arch (90a-real: H100 and H200 alone) or --no-nccl (a single GPU), which
# make the archive smaller, build/bundle is built first, for that. A name that ends in .xz makes it smaller still. On
# the other machine: tar xf OUTPUT.tar.gz; lexring-bundle/jobs/gpu_check.sh, or
# lexring-bundle/lexring, or lexring-bundle/mpirun -n 2 lexring-bundle/lexring. CUDA's, cuDNN's and NCCL's libraries
# come from there: a toolkit, or a PyTorch's packages.
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

root=$(cd "$(dirname "$0")/.." && pwd)
build='' arch='' nccl='' output=lexring-bundle.tar.gz golden=("$root"/tests/models/golden/*.h5)
while (($#)); do
  case $1 in --build | --golden | --arch) (($# >= 2)) || { echo "bundle: $1 needs a value" >&2; exit 2; } ;; esac
  case $1 in --golden) [ -f "$2" ] || { echo "bundle: --golden: there is no file $2" >&2; exit 2; } ;; esac
  case $1 in
    --build) build=$(realpath "$2"); shift 2 ;;
    --arch) arch=$2; shift 2 ;;
    --no-nccl) nccl=OFF; shift ;;
    --golden) golden+=("$(realpath "$2")"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "bundle: there is no option $1" >&2; usage >&2; exit 2 ;;
    *) output=$1; shift ;;
  esac
done
if [ -n "$arch$nccl" ]; then
  [ -z "$build" ] || { echo "bundle: --build is built already; leave --arch and --no-nccl out" >&2; exit 2; }
  build=$root/build/bundle
  cmake -S "$root" --preset cuda -B "$build" -DLEXRING_GPU_TESTS=ON ${nccl:+"-DLEXRING_NCCL=$nccl"} \
    ${arch:+"-DCMAKE_CUDA_ARCHITECTURES=$arch"}
  cmake --build "$build"
elif [ -z "$build" ]; then
  for build in "$root/build/cuda" "$root/build/release"; do [ ! -x "$build/lexring" ] || break; done
fi
[ -x "$build/lexring" ] || {
  echo "bundle: $build holds no lexring; build first, e.g. cmake --preset cuda && cmake --build --preset cuda" >&2
  exit 2
}

# Kernels are compiled for every level of instructions and choose at start; a flag for this machine's own undoes that.
if grep -qE -e '-m(arch|cpu|tune)=native' "$build/compile_commands.json" 2>/dev/null; then
  echo "bundle: $build is compiled for this machine's processor alone (-march=native or the like in its flags), and a" \
    "program of it may not start on another; configure without" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/lexring-bundle
mkdir -p "$bundle"/{bin,lib/compiler,jobs,golden,openmpi/etc}

cp "$build/lexring" "$bundle/bin/"
for program in $(find "$build/tests" -type f -perm -u+x ! -name 'emulated_*' \
  \( -name '*_gpu_test' -o -name device_bench \)); do
  cp "$program" "$bundle/bin/"
done
strip --strip-all "$bundle"/bin/*
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
      libstdc++.so* | libgcc_s.so*)  # used only where the other machine's is older (environment.sh)
        cp -L "$path" "$bundle/lib/compiler/$(basename "$(readlink -f "$path")")"
        ln -sf "$(basename "$(readlink -f "$path")")" "$bundle/lib/compiler/$name" 2>/dev/null || true ;;
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
# The compiler's libraries are this bundle's only where there is none as new: what is loaded into the same process
# (CUDA, a driver) may need more than this bundle's have.
ours=$(readlink -f "$here/lib/compiler/libstdc++.so.6")
theirs=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | awk '/libstdc\+\+\.so\.6 .*x86-64/ {print $NF; exit}')
[ -z "$theirs" ] || theirs=$(readlink -f "$theirs")
newest=$(printf '%s\n' "${ours##*/}" "${theirs##*/}" | sort -V | tail -n 1)
compiler=''
[ "$newest" = "${theirs##*/}" ] || compiler=:$here/lib/compiler
export LD_LIBRARY_PATH=$here/lib$compiler$(printf ':%s' "${nvidia[@]}")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
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
pack=(gzip -9)
case $output in *.xz) pack=(xz -T0) ;; esac
tar -C "$work" -cf - lexring-bundle | "${pack[@]}" >"$output.part"
mv "$output.part" "$output"
echo "$output: $(($(stat -c %s "$output") / 1000000)) MB, commit $(cat "$bundle/commit")"
