/// What this rank alone added to a step's gradients, in short: asked when their sum over the replicas is in doubt, to
/// say which machine that came from.
///
/// Columns are summed on the device as backward finishes a section, which reads gradients once and waits for nobody. An
/// element that is not finite makes its column's sum so; the same gradients make the same sums.
#pragma once

#include <cstddef>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter.h"

namespace lexring {

class OwnGradients {
 public:
  /// `parameters` and `sections` as in DataParallel; all that is given must outlive it.
  OwnGradients(Backend& backend, const std::vector<Parameter>& parameters,
               std::vector<std::vector<std::size_t>> sections);
  void begin_step();
  /// Backward adds nothing more to the gradients of this section.
  void reached(std::size_t section);
  /// Of all that was reached in this step; nothing where this was never made. Waits for the device.
  std::vector<std::byte> sums() const;
  bool finite() const;

  /// The parameters of a section.
  std::vector<Parameter> section(std::size_t section) const;

 private:
  Backend* backend_;
  const std::vector<Parameter>* parameters_;
  std::vector<std::vector<std::size_t>> sections_;
  Tensor sums_;  ///< [widest row]
};

}  // namespace lexring
