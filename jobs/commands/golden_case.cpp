#include "jobs/commands/golden_case.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/base/counted.h"
#include "jobs/commands/golden_config.h"
#include "jobs/training/replica.h"
#include "models/config_check.h"
#include "models/layer_configs.h"
#include "models/query_factors.h"
#include "models/sampling.h"
#include "models/weights.h"
#include "parallel/heads.h"

namespace lexring {

namespace {

/// What the case asks for, but neither lexring nor this mesh has.
class UnsupportedError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Documents are ids per token; the model takes where each begins, and where its first `sinks` tokens end.
void fill_documents(ModelBatch& batch, const std::vector<std::int64_t>& documents, std::int64_t sinks) {
  for (const TokenTable::Sequence& sequence : batch.tokens.sequences) {
    std::int64_t begin = sequence.first;
    for (std::int64_t n = sequence.first; n < sequence.first + sequence.count; ++n) {
      const auto id = [&](std::int64_t row) { return documents.at(static_cast<std::size_t>(row)); };
      if (id(n) != id(begin)) begin = n;
      std::int64_t last_sink = begin;
      while (last_sink + 1 < std::min(begin + sinks, sequence.first + sequence.count) && id(last_sink + 1) == id(begin))
        ++last_sink;
      batch.document_start.push_back(batch.tokens.position[static_cast<std::size_t>(begin)]);
      batch.sink_end.push_back(batch.tokens.position[static_cast<std::size_t>(last_sink)] + 1);
    }
  }
}

/// Of each sequence's tokens. Whole numbers are positions; others are coordinates of tokens at 0, 1, 2, ...
void take_positions(ModelBatch& batch, const std::vector<double>& drawn, const ModelConfig& config) {
  const auto of_row = [&](std::size_t n) { return drawn.at(n % drawn.size()); };
  if (std::all_of(drawn.begin(), drawn.end(), [](double p) { return p == std::floor(p) && p >= 0; })) {
    for (std::size_t n = 0; n < batch.ids.size(); ++n) batch.tokens.position[n] = static_cast<std::int64_t>(of_row(n));
    return;
  }
  try {
    check(SamplingConfig{.kind = "cape"}, config);
  } catch (const UsageError& error) {
    throw UnsupportedError(error.what());
  }
  if (!std::is_sorted(drawn.begin(), drawn.end()))
    throw UnsupportedError("positions that fall: sampling.local_shift is at most 0.5, so that no token passes another");
  for (std::size_t n = 0; n < batch.ids.size(); ++n) batch.tokens.coordinate.push_back(of_row(n));
}

ModelBatch read_batch(const Hdf5File& file, const std::string& name, const ModelConfig& config) {
  const std::vector<std::int64_t> shape = file.shape(name + "/tokens");
  require(shape.size() == 2, "{}: {}/tokens is not [batch, length]; is this a golden file?", file.path().string(),
          name);
  ModelBatch batch;
  batch.tokens = dense_tokens(shape[0], shape[1]);
  batch.ids = file.read_all<std::int32_t>(name + "/tokens");
  batch.targets = file.read_all<std::int32_t>(name + "/targets");
  if (file.exists(name + "/positions")) take_positions(batch, file.read_all<double>(name + "/positions"), config);
  if (file.exists(name + "/documents"))
    fill_documents(batch, file.read_all<std::int64_t>(name + "/documents"), sinks_of(config));
  return batch;
}

/// The weights of a case.
class GoldenWeights final : public TensorSource {
 public:
  GoldenWeights(const Hdf5File& file, const std::string& name) : file_(file), group_(name + "/weights") {}
  std::string origin() const override { return fmt::format("{}: {}", file_.path().string(), group_); }
  std::vector<std::string> names() const override { return file_.members(group_); }
  std::optional<Info> info(const std::string& name) const override {
    if (!file_.exists(group_ + "/" + name)) return std::nullopt;
    return Info{Dtype::f64, file_.shape(group_ + "/" + name)};
  }

 private:
  void do_read(const std::string& name, const Shape& offset, const Shape& shape,
               std::span<std::byte> out) const override {
    file_.read(group_ + "/" + name, H5Type::f64, offset, shape, out);
  }

  const Hdf5File& file_;
  std::string group_;
};

/// Whether some layer's attention is so.
bool any_layer(const ModelConfig& config, bool (*is)(const AttentionConfig&)) {
  for (std::int64_t n = 0; n < config.layers; ++n) {
    if (is(config.layer(n).attention)) return true;
  }
  return false;
}
bool clamps(const AttentionConfig& attention) { return attention.clamp > AttentionConfig::no_clamp; }
bool has_halves(const AttentionConfig& attention) { return attention.pattern->halves; }
bool rectifies(const AttentionConfig& attention) { return attention.normalizer == Normalizer::relu; }

/// Weights are exponentials of scores: the rounding of queries and keys reaches gradients as many times as scores are
/// multiplied; and through the derivative of a cap, which changes with the score over the cap.
double rounding_of_scores(const ModelConfig& config, std::int64_t tokens) {
  double factor = 1;
  for (std::int64_t n = 0; n < config.layers; ++n) {
    const AttentionConfig attention = config.layer(n).attention;
    factor = std::max(factor, largest_factor(attention, tokens));
    if (attention.softcap > 0) factor = std::max(factor, 1 / attention.softcap);
  }
  return factor;
}

void run(GoldenResult& result, const Hdf5File& file, const std::string& name, const ModelRuntime& runtime, Shard shard,
         const Context& context, Backend& backend) {
  const int tp = context.mesh().size(Axis::tp);
  ModelConfig config;
  try {  // what this case asks for; what the run asks for (precision, device) is refused for all cases
    config =
        golden_config(file.string_attribute(name, "config"), fmt::format("{}: case {}", file.path().string(), name));
    check(config);
    check_tensor_parallel(config, tp);
    require_usage(!any_layer(config, clamps) || runtime.precision != Precision::bf16,
                  "attention.clamp is compared in fp64 and fp32: rounding to bf16 decides which keys disappear");
  } catch (const UsageError& error) {
    throw UnsupportedError(error.what());
  }
  if (context.mesh().ulysses > 1 && any_layer(config, has_halves))
    throw UnsupportedError("mesh.ulysses exchanges heads, half of which see other blocks");
  if (!heads_fit(config.heads / tp, kv_heads_of_rank(config.kv_heads, tp), context.mesh().ulysses))
    throw UnsupportedError(fmt::format("{} with {} do not fit this mesh", counted(config.heads, "head"),
                                       counted(config.kv_heads, "key and value head")));
  const AdamWHyper hyper = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
  Replica replica({.model = config, .runtime = runtime, .optimizer = hyper, .shard = shard}, context, backend);
  replica.load_weights(GoldenWeights(file, name));

  const ModelBatch batch = read_batch(file, name, config);
  GoldenTolerance tolerance = golden_tolerance(runtime.precision);
  tolerance.gradient *= rounding_of_scores(config, length_of(batch.tokens));
  // ReLU's derivative jumps at 0. Where rounding moves scores by a share e of their spread, about as many of them have
  // the other derivative, and gradients an error of sqrt(e).
  if (any_layer(config, rectifies) && runtime.precision != Precision::fp64)
    tolerance.gradient += std::sqrt(tolerance.logits);
  GoldenComparison comparison(result);
  comparison.add("logits", replica.model().logits(batch, Transformer::Rows::all),
                 file.read_all<double>(name + "/logits"), tolerance.logits);

  const std::vector<double> losses = file.doubles_attribute(name + "/adamw", "losses");
  require(losses.size() == 4, "{}: {}/adamw has {} losses instead of 4", file.path().string(), name, losses.size());
  constexpr double lr = 1e-2;
  std::optional<FirstUpdate> first;
  for (std::size_t step = 0; step < losses.size(); ++step) {
    if (step == 3)
      comparison.add_parameters("adamw/", file, name, replica, &Parameter::value, context.world(),
                                tolerance.parameters);
    const double loss = replica.step({batch}, lr).loss;  // the fourth: what the loss is after the third
    if (step == 0) {
      const double reference = file.double_attribute(name, "loss");
      comparison.add("loss", std::abs(loss - reference), std::abs(reference), tolerance.loss);
      comparison.add_parameters("gradients/", file, name, replica, &Parameter::gradient, context.world(),
                                tolerance.gradient, tolerance.least_gradient);
      first.emplace(file, name, replica, lr, hyper.eps);
      // Rounding, which AdamW magnifies, carries scores across a clamp; and nobody trains with one.
      if (any_layer(config, clamps) && runtime.precision != Precision::fp64) break;
    }
    // The loss of each of the three steps; the one after the last, and the parameters, where AdamW does not amplify
    // rounding (golden_tolerance).
    const double allowed = step < 3 ? tolerance.step_losses : tolerance.parameters;
    const double rounding = step == 0 ? 0 : first->share_of_loss(replica, context.world());
    comparison.add(fmt::format("loss after {}", counted(step, "step")), std::abs(loss - rounding - losses[step]),
                   std::abs(losses[step]), allowed);
  }
}

}  // namespace

GoldenResult run_golden_case(const Hdf5File& file, const std::string& name, const ModelRuntime& runtime, Shard shard,
                             const Context& context, Backend& backend) {
  GoldenResult result;
  require(file.has_attribute(name, "config"),
          "{}: group {} is no golden case: it has no attribute config; is this a golden file?", file.path().string(),
          name);
  try {
    run(result, file, name, runtime, shard, context, backend);
  } catch (const UnsupportedError& error) {
    result.verdict = GoldenResult::Verdict::not_supported;
    result.reason = error.what();
  }
  return result;
}

}  // namespace lexring
