#include "jobs/commands/golden_case.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/base/counted.h"
#include "jobs/commands/golden_config.h"
#include "jobs/commands/golden_rounding.h"
#include "jobs/training/replica.h"
#include "models/config_check.h"
#include "models/layer_configs.h"
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

/// Whether some layer's attention is so.
bool any_layer(const ModelConfig& config, bool (*is)(const AttentionConfig&)) {
  for (std::int64_t n = 0; n < config.layers; ++n) {
    if (is(config.layer(n).attention)) return true;
  }
  return false;
}
bool clamps(const AttentionConfig& attention) { return attention.clamp > AttentionConfig::no_clamp; }
bool has_halves(const AttentionConfig& attention) { return attention.pattern->halves; }

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
  Replica replica({.model = config, .runtime = runtime, .optimizer = golden_adamw, .shard = shard}, context, backend);
  replica.load_weights(GoldenWeights(file, name));

  const ModelBatch batch = read_batch(file, name, config);
  std::optional<GoldenMoves> moves;
  const auto ask_moves = [&]() -> const GoldenMoves& {
    if (!moves) moves = golden_moves(file, name, config, batch, runtime.precision);
    return *moves;
  };
  GoldenTolerance tolerance = golden_tolerance(runtime.precision);
  // Rounding, which AdamW magnifies, carries scores across a clamp; and nobody trains with one.
  if (any_layer(config, clamps) && runtime.precision != Precision::fp64) tolerance.step_losses = 0;
  compare_case(replica, file, name, batch, context.world(), tolerance,
               [&](const GoldenDifference& difference) { result.add(difference, ask_moves); });
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
