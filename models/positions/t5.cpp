/// T5's relative positions (Raffel et al. 2020, section 2.1): score += table[bucket(n - m), h], learned, one table for
/// all layers. With b buckets, distances below b/2 have one each; the others share the rest by their logarithm, up to
/// max_distance, beyond which all are in the last. Where a query sees keys on both sides, half of the buckets are for
/// those after it.
#include <algorithm>
#include <cmath>

#include "framework/ops/embedding.h"
#include "framework/ops/transpose.h"
#include "models/positions/position.h"

namespace lexring {

namespace {

class T5 : public PositionEncoding {
 public:
  T5(std::int64_t buckets, std::int64_t max_distance) : buckets_(buckets), max_distance_(max_distance) {}

  std::vector<ParameterRow> parameters(const ModelConfig& model) const override {
    ParameterRow table{name, {buckets_, model.heads}, Initialiser::normal, TensorCut::columns};
    table.use = Use::lookup;
    return {table};
  }
  Var bias_by_distance(Tape& tape, const PositionParameters& parameters, const HeadShare&, std::int64_t longest,
                       Dtype master) const override {
    return table(tape, parameters, {0, buckets_}, longest, master);
  }
  bool sided() const override { return true; }
  void check_sided() const override {
    require_usage(
        buckets_ >= 4,
        "position.buckets = {} where a query sees keys on both sides: half of the buckets are for later keys, "
        "and half of those for single distances; choose at least 4",
        buckets_);
  }
  Var sided_bias(Tape& tape, const PositionParameters& parameters, bool later, std::int64_t longest,
                 Dtype master) const override {
    const std::int64_t half = buckets_ / 2;
    return table(tape, parameters, {later ? half : 0, half}, longest, master);
  }

 private:
  struct Buckets {
    std::int64_t first, count;
  };

  Var table(Tape& tape, const PositionParameters& parameters, Buckets own, std::int64_t longest, Dtype master) const {
    std::vector<std::int32_t> buckets;
    for (std::int64_t d = 0; d <= std::min(longest, max_distance_); ++d) buckets.push_back(bucket(own, d));
    const Tensor index = Tensor::from(tape.runtime(), {static_cast<std::int64_t>(buckets.size())}, buckets);
    return transpose(tape, embedding(tape, {{index, parameters.at(name)}}, {}, master));
  }

  std::int32_t bucket(Buckets own, std::int64_t distance) const {
    const std::int64_t exact = own.count / 2;
    if (distance < exact) return static_cast<std::int32_t>(own.first + distance);
    const double of_range = std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
                            std::log(static_cast<double>(max_distance_) / static_cast<double>(exact));
    const auto far = exact + static_cast<std::int64_t>(of_range * static_cast<double>(own.count - exact));
    return static_cast<std::int32_t>(own.first + std::min(far, own.count - 1));
  }

  static constexpr const char* name = "position.t5";
  std::int64_t buckets_, max_distance_;
};

std::unique_ptr<PositionEncoding> make(const ModelConfig&, const PositionConfig& position) {
  const std::int64_t buckets = position.own.whole("buckets"), max_distance = position.own.whole("max_distance");
  require_usage(buckets >= 2, "position.buckets = {} is too few: half of them are for single distances; choose e.g. 32",
                buckets);
  require_usage(max_distance > buckets / 2,
                "position.max_distance = {} is not beyond the {} distances that have buckets of their own "
                "(position.buckets / 2); choose e.g. 128",
                max_distance, buckets / 2);
  return std::make_unique<T5>(buckets, max_distance);
}

constexpr PositionSetting settings[] = {
    {"buckets", 32, 2, 1 << 20, "half for single distances, half for ranges that grow", "", true},
    {"max_distance", 128, 1, 2147483647, "distance from which all keys share a bucket", "tokens", true},
};

}  // namespace

constinit const PositionMethod position_methods::t5 = {
    .name = "t5",
    .make = make,
    .formula = "score += table[bucket(n − m), h], learned; buckets grow with the distance",
    .source = "Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    .settings = settings,
};

}  // namespace lexring
