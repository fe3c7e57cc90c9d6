/// Ranks that keep the others waiting. A rank's own time is a step's without what it was held up by others; where one's
/// is much longer than the median rank's, the others wait for the difference.
///
/// That a rank is slow may be its machine (a processor that is too hot or shared), or that it has more to do: with
/// sequence.partition = contiguous the last ones have.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/context.h"

namespace lexring {

/// Of one rank, over a window.
struct RankTime {
  double seconds = 0;  ///< from step to step, with what lies between: validations, saves
  double waited = 0;   ///< of these, held up by others
};

struct SlowRank {
  int rank = 0;
  double share = 0;   ///< of the steps' time that others wait for it
  double factor = 0;  ///< its own time over the median rank's
  bool operator==(const SlowRank&) const = default;
};

/// Those whose share is above a tenth, the slowest first.
std::vector<SlowRank> slow_ranks(const std::vector<RankTime>& times);

/// Looks at windows of so many steps, or of more until they took so long on rank 0: one small gather each.
class StragglerWatch {
 public:
  struct Window {
    std::int64_t steps;
    double seconds;
  };
  explicit StragglerWatch(const Context& context, Window window = {50, 10});
  /// After every step. What there is to say, the same on every rank: at the end of a window in which other ranks were
  /// slow than in the one before. Collective.
  std::optional<std::string> after_step(std::int64_t step);

 private:
  double held_up() const;

  const Context* context_;
  Window window_;
  std::vector<std::string> nodes_;
  std::int64_t steps_ = 0;  ///< in this window, negative where they do not count yet
  std::chrono::steady_clock::time_point since_;
  double waited_before_ = 0;
  std::vector<int> slow_;  ///< in the window before, ascending
};

}  // namespace lexring
