#include "jobs/launch/exit_codes.h"

#include <new>

namespace lexring {

Failure failure_of(const std::exception& error) {
  Failure failure{error.what(), exit_code::error, {}};
  if (dynamic_cast<const UsageError*>(&error) != nullptr) failure.code = exit_code::usage;
  if (dynamic_cast<const NumbersError*>(&error) != nullptr) failure.code = exit_code::numbers;
  if (const auto* machine = dynamic_cast<const MachineError*>(&error)) {
    failure.code = exit_code::machine;
    for (const auto& [node, why] : machine->suspects())
      failure.lines.push_back(fmt::format("machine {}: {}", node, why));
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    failure.message =
        "there is not enough memory; use a smaller train.micro_batch or model, or --train.recompute layer";
  }
  return failure;
}

}  // namespace lexring
