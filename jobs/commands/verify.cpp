#include "jobs/commands/verify.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>

#include "framework/base/console.h"
#include "jobs/commands/golden_case.h"
#include "jobs/config/keys.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/config/options.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/devices.h"

namespace lexring {

namespace {

const char* const usage = R"(lexring verify: run golden cases of the reference on this machine

  lexring verify
  lexring verify --device cpu --precision bf16 --only position
  mpirun -n 4 lexring verify --golden tests/models/golden/lex_everything.h5 --mesh.cp 2 --mesh.tp 2 \
    --optimizer.shard state

The cases that come with lexring are in tests/models/golden: every_kind.h5 has every position method and
rescaling and more on small models, lex_everything.h5 all switches of LEX together, with heads for 6 ranks.
Without --golden both run.
)";

/// The files of `golden`, a file or a directory of them; without it, the files that come with this binary: in the
/// checkout that it was built in (build/PRESET), under the prefix that it was installed to, or in its bundle.
std::vector<std::filesystem::path> golden_files(const std::string& golden) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> places = {golden};
  if (golden.empty()) {
    const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
    places = {here / "../../tests/models/golden", here / "../share/lexring/golden", here / "../golden"};
  } else if (!fs::is_directory(golden, error)) {
    return places;
  }
  for (const fs::path& place : places) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(place, error)) {
      if (entry.path().extension() == ".h5") files.push_back(entry.path().lexically_normal());
    }
    std::sort(files.begin(), files.end());
    if (!files.empty()) return files;
  }
  require_usage(golden.empty(), "{} is a directory without *.h5 files; give --golden with a golden file", golden);
  throw UsageError(
      "the golden files that come with lexring are not where they were built or installed; give --golden with one of "
      "tests/models/golden/*.h5 of the source");
}

std::string describe(const GoldenResult& result) {
  switch (result.verdict) {
    case GoldenResult::Verdict::passed:
      return fmt::format("passed         (nearest to its tolerance: {} {:.1e} of {:.0e})", result.worst, result.error,
                         result.tolerance);
    case GoldenResult::Verdict::failed:
      return fmt::format("failed         ({} has an error of {:.3e}, allowed is {:.0e})", result.worst, result.error,
                         result.tolerance);
    case GoldenResult::Verdict::not_supported:
      return fmt::format("not supported  ({})", result.reason);
  }
  return {};
}

/// Cases are too small for replicas: all ranks share each one.
Mesh verification_mesh(const MeshKeys& keys, int ranks) {
  const Mesh mesh = make_mesh(ranks, 0, keys.cp, keys.tp, std::max<std::int64_t>(keys.ulysses, 1));
  require_usage(keys.dp <= 1 && mesh.size(Axis::dp) == 1,
                "verify computes one batch at a time (mesh.dp = 1): mesh.cp = {} times mesh.tp = {} must be the number "
                "of processes, {}; use e.g. --mesh.cp {}, or start {}",
                keys.cp, keys.tp, ranks, ranks / keys.tp, keys.cp * keys.tp);
  return mesh;
}

}  // namespace

int verify_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  std::string golden, only;
  PrecisionChoice precision = PrecisionChoice::automatic;
  DeviceKeys device;
  bool strict = false;
  MeshKeys mesh;
  SequenceKeys sequence;
  Options options;  ///< only its optimizer.shard
  KeyTable table;
  table.add(
      {{"golden", &golden, "a file of golden cases, or a directory of them", "file", "those that come with lexring"},
       {"only", &only, "run the cases whose name contains this"},
       {"precision",
        &precision,
        "working precision; auto: fp64 on reference, fp32 elsewhere",
        "",
        "",
        {"auto", "fp64", "fp32", "bf16"}},
       {"strict", &strict, "a case that is not supported is a failure", "", "", {}, true}});
  table.add(device_keys(device));
  table.add(mesh_keys(mesh));
  table.add(sequence_keys(sequence));
  table.add(*option_keys(options).find("optimizer.shard"));
  const bool speaks = world->rank() == 0;
  if (answers_help(args, usage + table.help(), *world)) return 0;
  table.parse_arguments(args);
  std::vector<Hdf5File> files;
  for (const std::filesystem::path& path : golden_files(golden)) files.emplace_back(path, Hdf5File::Mode::read);
  const Mesh cases_mesh = verification_mesh(mesh, world->size());
  require_usage(
      options.optimizer.shard == Shard::none || cases_mesh.size(Axis::cp) > 1,
      "optimizer.shard = {} divides the optimizer among the ranks of mesh.cp, of which this run has one; start "
      "more of them with --mesh.cp 2 or more, or leave it out",
      name_of(options.optimizer.shard));
  ModelRuntime runtime;
  if (precision == PrecisionChoice::automatic)
    precision = device.device == DeviceChoice::reference ? PrecisionChoice::fp64 : PrecisionChoice::fp32;
  runtime.precision = precision_of(precision);
  runtime.partition = sequence.partition;
  runtime.exchange = sequence.exchange;

  const RunDevice run = open_device(device, precision, world);
  const Context context(run.world, cases_mesh);
  if (speaks) say("{} {}\n", run.backend->describe(), name_of(precision));
  std::array<int, 3> counts = {0, 0, 0};
  for (const Hdf5File& file : files) {
    if (speaks && files.size() > 1) print_result("{}\n", file.path().string());
    for (const std::string& name : file.members("/")) {
      if (name.find(only) == std::string::npos || !file.is_group(name)) continue;
      const GoldenResult result = run_golden_case(file, name, runtime, options.optimizer.shard, context, *run.backend);
      ++counts[static_cast<std::size_t>(result.verdict)];
      if (!speaks) continue;
      print_result("{:<26} {}\n", name, describe(result));
    }
  }
  const bool any = counts[0] + counts[1] + counts[2] > 0;
  require_usage(any || !only.empty(),
                "{} has no golden cases; give a file of tests/models/golden, or one that golden.py wrote",
                files.front().path().string());
  require_usage(any, "no case in {} has a name with '{}' in it; choose another --only or --golden",
                files.front().path().string(), only);
  if (speaks) print_result("{} passed, {} failed, {} not supported\n", counts[0], counts[1], counts[2]);
  return counts[1] > 0 || (strict && counts[2] > 0) ? 1 : 0;
}

}  // namespace lexring
