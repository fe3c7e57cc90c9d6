/// Sums gradients over replicas while backward is still running.
///
/// Calls come in the same order on all replicas. Sums are taken in master precision, in the order of the ranks: the
/// same bits in every run.
#pragma once

#include <cstddef>
#include <memory>

#include "framework/backend/backend.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/buckets.h"

namespace lexring {

class GradientReduction {
 public:
  GradientReduction() = default;
  GradientReduction(const GradientReduction&) = delete;
  GradientReduction& operator=(const GradientReduction&) = delete;
  virtual ~GradientReduction() = default;

  /// Backward adds nothing more to the gradients of this section; sections come in their order. Starts what is complete
  /// now. Where sums are added up in places of their own, micro-batches may follow each other; else there is one pass
  /// between two calls of finish.
  virtual void reached(std::size_t section) = 0;
  /// Returns when all sums are there.
  virtual void finish() = 0;
};

/// Every gradient is summed in place on every rank; `gradients` is the flat buffer that they lie in. Moves 2 n (P - 1)
/// / P values per rank.
std::unique_ptr<GradientReduction> make_all_reduction(Backend& backend, Communicator& replicas, const Tensor& gradients,
                                                      const std::vector<Stretch>& stretches);

/// Rows of a parameter that this rank owns, and where their sum goes; undefined: it owns none.
struct OwnRows {
  std::int64_t first = 0;
  Tensor sum;
};

/// What happens to the storage of gradients once they are on their way.
enum class AfterSending {
  keep,   ///< nothing; the sum of the rank's own rows replaces them there
  clear,  ///< filled with 0 for whoever uses it next; the sum is added to a place of its own
};

/// Every gradient is summed by the owner of its rows; `own` is by parameter. Moves n (P - 1) / P values per rank.
std::unique_ptr<GradientReduction> make_scattering_reduction(Backend& backend, Communicator& replicas,
                                                             const std::vector<Parameter>& parameters,
                                                             std::vector<Bucket> buckets, std::vector<OwnRows> own,
                                                             AfterSending after);

}  // namespace lexring
