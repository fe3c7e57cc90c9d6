// What a model sees, by perturbation, on meshes: changing one token changes exactly the outputs that the mask, over the
// layers, lets it into, and no bit of any other.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/random.h"
#include "models/transformer.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

constexpr std::int64_t length = 30, vocab = 23;

struct Sight {
  const char* pattern;
  Exchange exchange;
  bool cache_positions = false;
  bool forget_gate = false;  ///< by the reference only: other sums before a window change its last bits
};
constexpr Sight sights[] = {{"causal", Exchange::ring},
                            {"blockwise", Exchange::ring},
                            {"blockwise", Exchange::halo},
                            {"window", Exchange::halo},
                            {"window", Exchange::ring},
                            {"sink_window", Exchange::halo},
                            {"sink_window", Exchange::ring},
                            {"chunked", Exchange::ring},
                            {"chunked", Exchange::halo},
                            {"full", Exchange::ring},
                            {"full", Exchange::halo},
                            {"shifted", Exchange::ring},
                            {"shifted", Exchange::halo},
                            {"sink_window", Exchange::halo, true},
                            {"sink_window", Exchange::ring, true},
                            {"causal", Exchange::ring, false, true},
                            {"window", Exchange::halo, false, true}};
constexpr PartitionKind partitions[] = {PartitionKind::zigzag, PartitionKind::striped, PartitionKind::contiguous};

ModelConfig small_model(const char* pattern, std::int64_t layers) {
  ModelConfig config;
  config.vocab = vocab;
  config.layers = layers;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = 2;
  config.ffn_width = 24;
  config.position.own.number("scale_base") = 16;
  config.attention.pattern = pattern;
  config.attention.window = 7;
  config.attention.block = 6;
  config.attention.sinks = 2;
  return config;
}

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

/// Where each row's document begins: one of each length that chunks may cut, or one for all.
std::vector<std::int64_t> document_starts(bool documents) {
  std::vector<std::int64_t> starts;
  for (std::int64_t n = 0; n < length; ++n)
    starts.push_back(!documents || n < 1 ? 0 : n < 4 ? 1 : n < 17 ? 4 : n < 18 ? 17 : 18);
  return starts;
}

enum class Tokens { as_they_are, perturbed };

/// One sequence `length` times; perturbed, token n of the n-th is another. Outputs are compared with those of the same
/// place in the other batch: where a row lies may decide, in its last bits, how a product sums it.
ModelBatch batch_of(Tokens tokens, const std::vector<std::int64_t>& starts, std::int64_t sinks) {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> all_starts;
  for (std::int64_t sequence = 0; sequence < length; ++sequence) {
    for (std::int64_t n = 0; n < length; ++n) {
      const auto id =
          static_cast<std::int64_t>(random_bits(5, stream_id("perturbation"), static_cast<std::uint64_t>(n)) % vocab);
      ids.push_back(static_cast<std::int32_t>(tokens == Tokens::perturbed && n == sequence ? (id + 1) % vocab : id));
    }
    all_starts.insert(all_starts.end(), starts.begin(), starts.end());
  }
  return make_batch(length, length, std::move(ids), {}, std::move(all_starts), sinks);
}

/// [length, length] reach[n][j]: output n depends on token j through this many layers.
std::vector<std::vector<bool>> reach_of(const ModelConfig& config, const std::vector<std::int64_t>& starts) {
  const auto one = [&](std::int64_t i, std::int64_t j) { return sees(config.attention, starts, i, j); };
  std::vector<std::vector<bool>> reach(length, std::vector<bool>(length));
  for (std::int64_t n = 0; n < length; ++n) reach[static_cast<std::size_t>(n)][static_cast<std::size_t>(n)] = true;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    std::vector<std::vector<bool>> next = reach;
    for (std::int64_t n = 0; n < length; ++n) {
      for (std::int64_t via = 0; via < length; ++via) {
        if (!one(n, via)) continue;
        for (std::size_t j = 0; j < length; ++j) {
          next[static_cast<std::size_t>(n)][j] =
              next[static_cast<std::size_t>(n)][j] || reach[static_cast<std::size_t>(via)][j];
        }
      }
    }
    reach = std::move(next);
  }
  return reach;
}

template <class T>
void expect_exact(const std::vector<T>& before, const std::vector<T>& after,
                  const std::vector<std::vector<bool>>& reach, double most_rounding) {
  std::string wrong;
  for (std::int64_t changed = 0; changed < length; ++changed) {
    for (std::int64_t n = 0; n < length; ++n) {
      const auto row = (changed * length + n) * vocab;
      const bool differs = !std::equal(before.begin() + row, before.begin() + row + vocab, after.begin() + row,
                                       [&](T a, T b) { return std::abs(a - b) <= most_rounding; });
      if (differs == reach[static_cast<std::size_t>(n)][static_cast<std::size_t>(changed)]) continue;
      wrong += fmt::format(" {}{}{}", changed, differs ? "->" : "-/->", n);
    }
  }
  EXPECT_EQ(wrong, "") << "tokens that reach an output they must not (->), or do not reach one they should (-/->)";
}

class Perturbation : public ::testing::TestWithParam<const char*> {
 protected:
  /// All patterns on a mesh, one partition of it.
  void probe(const Mesh& mesh, PartitionKind partition) {
    const auto backend = std::string_view(GetParam()) == "cpu" ? make_cpu_backend() : make_reference_backend();
    const Context context(lexring::testing::world(), mesh);
    for (const Sight& sight : sights) {
      for (const int what : {0, 1, 2}) {  // one layer; one with packed documents; two with packed documents
        ModelConfig config = small_model(sight.pattern, what == 2 ? 2 : 1);
        if (config.attention.pattern->halves && mesh.ulysses > 1) continue;  // refused
        config.attention.cache_positions = sight.cache_positions;
        config.attention.forget_gate = sight.forget_gate;
        if (sight.forget_gate && backend->name() != "reference") continue;
        const double most_rounding = sight.forget_gate ? 1e-14 : 0;
        ModelRuntime how;
        how.precision = backend->name() == "reference" ? Precision::fp64 : Precision::fp32;
        how.partition = partition;
        how.exchange = sight.exchange;
        SCOPED_TRACE(fmt::format("{}, {}, {} by {}, {} layers{}", mesh.describe(), name_of(partition), sight.pattern,
                                 name_of(sight.exchange), config.layers, what > 0 ? ", packed documents" : ""));
        Transformer model(config, how, context, *backend);
        model.initialise(3);
        const std::vector<std::int64_t> starts = document_starts(what > 0);
        const auto logits = [&](Tokens tokens) {
          return model.logits(batch_of(tokens, starts, config.attention.sinks), Transformer::Rows::all);
        };
        const Tensor before = logits(Tokens::as_they_are), after = logits(Tokens::perturbed);
        const auto reach = reach_of(config, starts);
        if (before.dtype() == Dtype::f64)
          expect_exact(before.to_host<double>(), after.to_host<double>(), reach, most_rounding);
        else expect_exact(before.to_host<float>(), after.to_host<float>(), reach, 0);
      }
    }
  }
};

TEST_P(Perturbation, OneTokenChangesExactlyWhatTheMaskAllowsOnEveryMesh) {
  const int ranks = lexring::testing::world()->size();
  for (int tp = 1; tp <= 2; ++tp) {
    if (ranks % tp != 0) continue;
    const int cp = ranks / tp;
    for (int ulysses = 1; ulysses <= std::min(cp, 2); ++ulysses) {
      if (cp % ulysses != 0) continue;
      for (const PartitionKind partition : partitions) {
        if (cp > 1 || partition == PartitionKind::contiguous) probe(make_mesh(ranks, 1, cp, tp, ulysses), partition);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Perturbation, ::testing::Values("reference", "cpu"),
                         [](const auto& given) { return given.param; });

}  // namespace
}  // namespace lexring
