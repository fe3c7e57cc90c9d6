#include "jobs/training/validation.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "datasets/batches.h"
#include "framework/base/counted.h"
#include "jobs/training/training_batches.h"
#include "models/layer_configs.h"

namespace lexring {

Validation::Validation(const Options& options, const Context& context, const Dataset& data)
    : options_(&options), context_(&context), data_(&data) {
  require_usage(data.tokens() > options.train.length,
                "data.valid {} has {}, fewer than one window of train.length = {} and its last target; give more text, "
                "or leave it out",
                data.path().string(), counted(data.tokens(), "token"), options.train.length);
  require_whole_texts(data, options.train.length);
}

std::optional<double> Validation::loss(Transformer& model, const std::function<bool()>& stop) const {
  const Communicator& dp = context_->axis(Axis::dp);
  const bool first_of_tp = context_->axis(Axis::tp).rank() == 0,
             first_of_batch = first_of_tp && context_->axis(Axis::cp).rank() == 0;
  const std::int64_t length = options_->train.length;
  const std::int64_t available = (data_->tokens() - 1) / length;
  const std::int64_t windows = std::min(options_->train.valid_windows, available);
  std::array<double, 2> sums = {0, 0};  // nats, targets
  for (std::int64_t first = 0; first < windows;
       first += dp.size()) {  // in step: all ranks stop before the same windows, or none
    if (stop()) return std::nullopt;
    const std::int64_t i = first + dp.rank();
    if (i >= windows) continue;
    const std::int64_t window = i * available / windows;  // spread over the whole set
    ModelBatch batch = to_model_batch(read_windows(*data_, window * length, 1, length, options_->data.use()),
                                      sinks_of(options_->model));
    if (const auto masking = masking_of(*options_)) masking->hide_tokens(batch, window * length);
    const double nll = model.evaluate(batch).nll_sum();  // the ranks of cp each hold a part, those of tp the same
    if (first_of_tp) sums[0] += nll;
    if (first_of_batch) sums[1] += static_cast<double>(counted_targets(batch));
  }
  context_->world().all_reduce(std::span<double>(sums), Reduce::sum);
  return sums[1] > 0 ? sums[0] / sums[1] : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace lexring
