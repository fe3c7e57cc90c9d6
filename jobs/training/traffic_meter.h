/// What a run's groups of ranks said to each other, by what it was for.
#pragma once

#include <string>
#include <vector>

#include "parallel/context.h"

namespace lexring {

/// Of this rank, since the meter was started.
struct AxisTraffic {
  std::string name;  ///< "ring", "ulysses", "tp", "gradients", "other"
  double calls = 0;
  double bytes = 0;   ///< sent to other ranks
  double busy = 0;    ///< seconds that transfers were under way; where two names share a group, of both
  double waited = 0;  ///< seconds that the computation was held up
};

class TrafficMeter {
 public:
  /// Starts to count: resets the records of all groups of `context`, which must outlive it.
  explicit TrafficMeter(const Context& context);

  /// All five, in the order above.
  std::vector<AxisTraffic> read() const;

 private:
  std::string purpose(const Communicator& group, const std::string& operation) const;

  const Context* context_;
};

}  // namespace lexring
