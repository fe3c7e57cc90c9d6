/// What evaluations of data and of tasks do alike, around their measuring: the output, the parts that are kept, the
/// device, and the end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jobs/commands/evaluate_arguments.h"
#include "jobs/evaluation/kept_parts.h"
#include "jobs/evaluation/output.h"
#include "jobs/launch/devices.h"

namespace lexring {

/// A cell that can be measured: its name among the parts, and how many windows or texts it has.
struct PlannedCell {
  std::string name;
  std::int64_t size = 0;
};

class EvaluationRun {
 public:
  /// Opens the output, where there is to be one, for these files, and verifies checkpoints. `data_hash`: empty where
  /// there is no data. Says which cells were there. Throws what the output refuses, on all ranks. Collective.
  EvaluationRun(const EvaluateArguments& args, const std::vector<std::string>& words,
                const std::vector<CheckpointReader>& readers, const std::string& data_hash,
                const std::vector<std::string>& files, std::vector<PlannedCell> cells,
                const std::shared_ptr<Communicator>& world);

  bool first_rank() const { return world_->rank() == 0; }
  KeptParts& parts() { return *parts_; }
  /// The device for a subject: the one that is open, unless the subject's precision is another choice of the device.
  const RunDevice& device_for(const Subject& subject);
  /// The one that was opened last.
  const RunDevice& device() const { return *device_; }
  /// On rank 0, where results are to be written; else null.
  EvaluationOutput* output() { return output_ ? &*output_ : nullptr; }
  /// After EvaluationStopped: says what is done and how to go on; the exit code.
  int stopped();

 private:
  std::string done() const;

  const EvaluateArguments& args_;
  std::shared_ptr<Communicator> world_;
  std::vector<PlannedCell> cells_;
  std::optional<EvaluationOutput> output_;
  std::optional<KeptParts> parts_;
  std::optional<RunDevice> device_;
  std::optional<PrecisionChoice> precision_;  ///< that the device was opened for
};

/// "node7, x86_64, 64 processors"; "2026-03-01 12:00 UTC"; "lexring 1.0, commit 0123abcd".
std::string describe_machine();
std::string describe_now();
std::string describe_version();

/// Fills in who measured, where, when, and with which command.
template <class Results>
void sign(Results& results, const std::vector<std::string>& words, const Communicator& world) {
  results.machine = describe_machine();
  results.date = describe_now();
  results.version = describe_version();
  results.command = command_line(words);
  results.ranks = world.size();
}

}  // namespace lexring
