#include "jobs/commands/verify.h"

#include <array>
#include <numeric>

#include "framework/base/console.h"
#include "jobs/commands/golden_case.h"
#include "jobs/keys.h"
#include "jobs/mesh_setup.h"
#include "jobs/options.h"

namespace lexring {

namespace {

const char* const usage = R"(lexring verify: run golden cases of the reference on this machine

  lexring verify --golden golden.h5 --device cpu --precision bf16
  mpirun -n 4 lexring verify --golden golden.h5 --mesh.cp 2 --mesh.tp 2
)";

std::string describe(const GoldenResult& result) {
  switch (result.verdict) {
    case GoldenResult::Verdict::passed:
      return fmt::format("passed         (nearest to its tolerance: {} {:.1e} of {:.0e})", result.worst, result.error, result.tolerance);
    case GoldenResult::Verdict::failed:
      return fmt::format("failed         ({} has an error of {:.3e}, allowed is {:.0e})", result.worst, result.error, result.tolerance);
    case GoldenResult::Verdict::not_supported:
      return fmt::format("not supported  ({})", result.reason);
  }
  return {};
}

/// Cases are too small for replicas: all ranks share each one.
Mesh verification_mesh(const MeshKeys& keys, int ranks) {
  const Mesh mesh = make_mesh(ranks, 0, keys.cp, keys.tp, std::max<std::int64_t>(keys.ulysses, 1));
  require_usage(keys.dp <= 1 && mesh.size(Axis::dp) == 1,
                "verify computes one batch at a time (mesh.dp = 1): mesh.cp = {} times mesh.tp = {} must be the number of processes, {}; use e.g. "
                "--mesh.cp {}, or start {}",
                keys.cp, keys.tp, ranks, ranks / keys.tp, keys.cp * keys.tp);
  return mesh;
}

}  // namespace

int verify_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  std::string golden, only, precision = "auto";
  DeviceKeys device;
  bool strict = false;
  MeshKeys mesh;
  SequenceKeys sequence;
  KeyTable table;
  table.add(
      {{"golden", &golden, "golden cases, written by golden.py", "file"},
       {"only", &only, "run the cases whose name contains this"},
       {"precision", &precision, "working precision; auto: fp64 on reference, fp32 elsewhere", "", "", {"auto", "fp64", "fp32", "bf16"}},
       {"strict", &strict, "a case that is not supported is a failure", "", "", {}, true}});
  table.add(device_keys(device));
  table.add(mesh_keys(mesh));
  table.add(sequence_keys(sequence));
  const bool speaks = world->rank() == 0;
  if (asks_help(args)) {
    if (speaks) print_result("{}{}", usage, table.help());
    return 0;
  }
  table.parse_arguments(args);
  require_usage(!golden.empty(), "golden is missing; give --golden with a file written by golden.py");

  const Mesh cases_mesh = verification_mesh(mesh, world->size());
  ModelRuntime runtime;
  if (precision == "auto") precision = device.name == "reference" ? "fp64" : "fp32";
  runtime.precision = precision_of(precision);
  runtime.partition = partition_named(sequence.partition);
  runtime.exchange = exchange_named(sequence.exchange);

  const Hdf5File file(golden, Hdf5File::Mode::read);
  const RunDevice run = open_device(device, precision, world);
  const Context context(run.world, cases_mesh);
  if (speaks) say("{} {}\n", run.backend->describe(), precision);
  std::array<int, 3> counts = {0, 0, 0};
  for (const std::string& name : file.members("/")) {
    if (name.find(only) == std::string::npos || !file.is_group(name)) continue;
    const GoldenResult result = run_golden_case(file, name, runtime, context, *run.backend);
    ++counts[static_cast<std::size_t>(result.verdict)];
    if (!speaks) continue;
    print_result("{:<26} {}\n", name, describe(result));
  }
  require_usage(counts[0] + counts[1] + counts[2] > 0, "{} has no case whose name contains '{}'; choose another --only or file", golden,
                only);
  if (speaks) print_result("{} passed, {} failed, {} not supported\n", counts[0], counts[1], counts[2]);
  return counts[1] > 0 || (strict && counts[2] > 0) ? 1 : 0;
}

}  // namespace lexring
