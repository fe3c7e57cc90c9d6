#include "jobs/commands/verify.h"

#include <array>
#include <cstdio>

#include "jobs/commands/golden_case.h"
#include "jobs/keys.h"
#include "jobs/options.h"

namespace lexring {

namespace {

const char* const usage = R"(lexring verify: run golden cases of the reference on this machine

  lexring verify --golden golden.h5 --device cpu --precision bf16
)";

Precision parse_precision(const std::string& name, bool reference) {
  if (name == "auto") return reference ? Precision::fp64 : Precision::fp32;
  return name == "fp64" ? Precision::fp64 : name == "bf16" ? Precision::bf16 : Precision::fp32;
}

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

}  // namespace

int verify_command(const std::vector<std::string>& args, Context& context) {
  std::string golden, only, precision = "auto", device = "auto";
  bool strict = false;
  KeyTable table;
  table.add(
      {{"golden", &golden, "golden cases, written by golden.py", "file"},
       {"only", &only, "run the cases whose name contains this"},
       {"precision", &precision, "working precision; auto: fp64 on reference, fp32 elsewhere", "", "", {"auto", "fp64", "fp32", "bf16"}},
       {"device", &device, "what computes", "", "", {"auto", "reference", "cpu", "cuda"}},
       {"strict", &strict, "a case that is not supported is a failure", "", "", {}, true}});
  const bool speaks = context.world().rank() == 0;
  if (asks_help(args)) {
    if (speaks) fmt::print("{}{}", usage, table.help());
    return 0;
  }
  table.parse_arguments(args);
  require_usage(!golden.empty(), "golden is missing; give --golden with a file written by golden.py");

  const Hdf5File file(golden, Hdf5File::Mode::read);
  const auto backend = make_backend(device);
  std::array<int, 3> counts = {0, 0, 0};
  for (const std::string& name : file.members("/")) {
    if (name.find(only) == std::string::npos || !file.is_group(name)) continue;
    const GoldenResult result = run_golden_case(file, name, parse_precision(precision, device == "reference"), *backend);
    ++counts[static_cast<std::size_t>(result.verdict)];
    if (!speaks) continue;
    fmt::print("{:<26} {}\n", name, describe(result));
    std::fflush(stdout);
  }
  require_usage(counts[0] + counts[1] + counts[2] > 0, "{} has no case whose name contains '{}'; choose another --only or file", golden,
                only);
  if (speaks) fmt::print("{} passed, {} failed, {} not supported\n", counts[0], counts[1], counts[2]);
  return counts[1] > 0 || (strict && counts[2] > 0) ? 1 : 0;
}

}  // namespace lexring
