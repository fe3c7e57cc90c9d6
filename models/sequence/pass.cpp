#include "models/sequence/pass.h"

namespace lexring {

PartitionKind default_partition(const ModelConfig& config) {
  constexpr std::int64_t far = std::int64_t{1} << 40;
  for (std::int64_t n = 0; n < config.layers; ++n) {
    const auto pattern = make_pattern(config.layer(n).attention);
    if (!pattern->sees_later() && pattern->first_visible(far) <= 0) return PartitionKind::zigzag;
  }
  return PartitionKind::contiguous;
}

std::shared_ptr<const SequencePass> make_pass(const PassModel& model, const ModelBatch& batch, ModelCache* cache) {
  if (cache != nullptr) return make_cached_pass(model, batch, *cache);
  return model.context.axis(Axis::cp).size() > 1 ? make_sharded_pass(model, batch) : make_local_pass(model, batch);
}

}  // namespace lexring
