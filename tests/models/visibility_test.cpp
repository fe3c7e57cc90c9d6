// What a model sees, by perturbation: changing one token changes exactly the outputs whose mask, over the layers, lets
// it in.
#include <gtest/gtest.h>

#include "tests/models/model_testing.h"

namespace lexring {
namespace {

struct Case {
  std::string pattern;
  bool documents;
  bool cache_positions = false;
};

constexpr std::int64_t length = 30;

/// The mask as the reference writes it, for dense positions of one sequence.
bool sees(const AttentionConfig& a, const std::vector<std::int64_t>& start, std::int64_t i, std::int64_t j) {
  const std::int64_t document = start[static_cast<std::size_t>(i)];
  if (a.pattern == "full") return start[static_cast<std::size_t>(j)] == document;
  if (j > i || j < document) return false;
  if (a.pattern == "window") return i - j < a.window;
  if (a.pattern == "blockwise") return i / a.block - j / a.block <= 1;
  if (a.pattern == "chunked") return i / a.block == j / a.block;
  if (a.pattern == "shifted") {  // by one half of the heads or by the other
    const std::int64_t shift = a.block - a.block / 2;
    return i / a.block == j / a.block || (i + shift) / a.block == (j + shift) / a.block;
  }
  if (a.pattern == "sink_window") return i - j < a.window || j - document < a.sinks;
  return true;
}

class VisibilityTest : public ::testing::TestWithParam<Case> {};

TEST_P(VisibilityTest, OneTokenChangesExactlyWhatTheMaskAllows) {
  ModelConfig config = small_config("xpos", GetParam().pattern);
  config.attention.cache_positions = GetParam().cache_positions;
  config.layers = 1;  // one layer: what changes is the mask's column itself
  SmallModel small(config, {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(1, length, config.vocab, GetParam().documents, config.attention.sinks);
  const std::vector<std::int64_t> start =
      GetParam().documents ? batch.document_start : std::vector<std::int64_t>(length, 0);
  const auto before = small.model.logits(batch, Transformer::Rows::all).to_host<double>();
  for (std::int64_t changed = 0; changed < length; ++changed) {
    ModelBatch other = batch;
    auto& id = other.ids[static_cast<std::size_t>(changed)];
    id = static_cast<std::int32_t>((id + 1) % config.vocab);
    const auto after = small.model.logits(other, Transformer::Rows::all).to_host<double>();
    for (std::int64_t n = 0; n < length; ++n) {
      bool differs = false;
      for (std::int64_t v = 0; v < config.vocab; ++v) {
        const auto at = static_cast<std::size_t>(n * config.vocab + v);
        differs = differs || before[at] != after[at];
      }
      EXPECT_EQ(differs, sees(config.attention, start, n, changed)) << "token " << changed << " in output " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, VisibilityTest,
                         ::testing::Values(Case{"causal", false}, Case{"causal", true}, Case{"window", false},
                                           Case{"window", true}, Case{"blockwise", false}, Case{"blockwise", true},
                                           Case{"chunked", false}, Case{"chunked", true}, Case{"sink_window", false},
                                           Case{"sink_window", true}, Case{"full", false}, Case{"full", true},
                                           Case{"shifted", false}, Case{"shifted", true},
                                           Case{"sink_window", false, true}, Case{"sink_window", true, true}),
                         [](const auto& given) {
                           return given.param.pattern + (given.param.cache_positions ? "_in_cache" : "") +
                                  (given.param.documents ? "_documents" : "");
                         });

}  // namespace
}  // namespace lexring
