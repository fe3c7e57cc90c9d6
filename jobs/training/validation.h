/// The loss of a model that is being trained, over windows of other data.
///
/// Beside jobs/evaluation/evaluator.h, which scores all of a stretch of tokens in any number of ways: here as few
/// windows as train.valid_windows says lie spread over the whole data set, only sums leave the device, and a stop is
/// heard between them.
#pragma once

#include <functional>
#include <optional>

#include "datasets/dataset.h"
#include "jobs/config/options.h"
#include "models/transformer.h"
#include "parallel/context.h"

namespace lexring {

class Validation {
 public:
  /// Throws UsageError when `data` has no whole window. Everything given must outlive it.
  Validation(const Options& options, const Context& context, const Dataset& data);

  /// Nats per counted target (next or hidden tokens), NaN where there is none; nothing when `stop` says so before one
  /// of the windows, the same on every rank. Collective.
  std::optional<double> loss(Transformer& model, const std::function<bool()>& stop) const;

 private:
  const Options* options_;
  const Context* context_;
  const Dataset* data_;
};

}  // namespace lexring
