/// An evaluation that can be stopped, as the ranks that measure see it: which parts are there, and where all of them
/// stop together.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/error.h"
#include "jobs/evaluation/parts_file.h"
#include "jobs/launch/stop_signal.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// Thrown on all ranks at the same place, when one was told to stop. The parts that are done are kept.
class EvaluationStopped : public Error {
 public:
  EvaluationStopped() : Error("the evaluation was told to stop") {}
};

class KeptParts {
 public:
  /// Keeps nothing, and never stops: a signal ends the process.
  KeptParts() = default;
  /// `file`: of rank 0; elsewhere null. While this lives, a signal is a wish to stop. Collective.
  KeptParts(Communicator& world, PartsFile* file);

  /// The parts of a cell that were there in the beginning, each after the one before it; the same on every rank.
  const std::vector<Part>& of(const std::string& cell) const;
  /// How far the cell's parts reach, those that were added too.
  std::int64_t reach(const std::string& cell) const;
  void add(const Part& part);
  /// Throws EvaluationStopped on every rank when one was told to stop. Collective.
  void may_stop() const;
  /// `number` of this rank's that is largest over all. Collective; without a group, itself.
  std::int64_t largest(std::int64_t number) const;

 private:
  Communicator* world_ = nullptr;
  PartsFile* file_ = nullptr;
  std::map<std::string, std::vector<Part>> there_;
  std::map<std::string, std::int64_t> reach_;
  std::optional<StopSignal> stop_;
};

/// A replica's passes in a part, where windows or texts are short: few enough to lose little, enough to wait seldom for
/// others.
inline constexpr std::int64_t passes_of_a_part = 4;

/// What goes on around the measurement of a cell.
struct CellWork {
  std::string name = "";       ///< of its parts
  KeptParts* parts = nullptr;  ///< which are there, and where finished ones go; none: nothing is kept, nobody stops
  /// Gets how many tokens, or texts, of the cell all ranks have done, about.
  std::function<void(std::int64_t)> progress = nullptr;
};

/// The places in a part at which all ranks may stop: before each forward pass of the one that has most of them.
class StopPoints {
 public:
  /// This rank has so many passes to do. Collective.
  StopPoints(const KeptParts& parts, std::int64_t passes) : parts_(parts), left_(parts.largest(passes)) {}
  /// Before each pass. Throws EvaluationStopped. Collective.
  void before_pass() {
    parts_.may_stop();
    --left_;
  }
  /// After the last one. Throws EvaluationStopped. Collective.
  void wait_for_others() {
    while (left_ > 0) before_pass();
  }

 private:
  const KeptParts& parts_;
  std::int64_t left_;
};

}  // namespace lexring
