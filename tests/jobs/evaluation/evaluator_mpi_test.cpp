#include <gtest/gtest.h>

#include "tests/jobs/evaluation/written_texts.h"
#include "tests/support/mpi_world.h"

namespace lexring::testing {
namespace {

/// Meshes of these many ranks for a model of two heads.
std::vector<Mesh> meshes(int ranks) {
  std::vector<Mesh> fitting;
  for (int tp = 1; tp <= 2; ++tp) {
    for (int cp = 1; cp <= ranks; ++cp) {
      if (ranks % (tp * cp) == 0) fitting.push_back(make_mesh(ranks, 0, cp, tp));
    }
  }
  return fitting;
}

void expect_same_as_alone(const Mesh& mesh) {
  SCOPED_TRACE(mesh.describe());
  const TempDirectory directory;
  const Dataset dataset = random_text(directory, 600);
  const auto backend = make_reference_backend();
  const Context alone, together(world(), mesh);
  for (const char* pattern : {"causal", "blockwise"}) {
    const auto one = random_model(tiny_config(pattern, dataset.vocab()), alone, *backend);
    const auto all = random_model(tiny_config(pattern, dataset.vocab()), together, *backend);
    for (const std::int64_t length : {32, 256, 512}) {  // 16, 2 and 1 windows: fewer than there are ranks, too
      const TokenStream stream{512, Documents::mask, 64, {}};
      const Cell expected = measure(*one, alone, dataset, stream, length);
      const Cell got = measure(*all, together, dataset, stream, length);
      EXPECT_NEAR(got.segments.nll[0], expected.segments.nll[0], 1e-10 * expected.segments.nll[0])
          << pattern << " " << length;
      EXPECT_EQ(got.segments.tokens, expected.segments.tokens);
      EXPECT_NEAR(got.bits_per_byte, expected.bits_per_byte, 1e-10);
      ASSERT_EQ(got.by_position.size(), expected.by_position.size());
      for (std::size_t i = 0; i < got.by_position.size(); ++i)
        EXPECT_EQ(got.by_position[i].tokens, expected.by_position[i].tokens);
    }
    if (mesh.size(Axis::cp) > 1) continue;  // ranks take texts of their own for attention resolution
    const TokenStream stream{512, Documents::ignore, 64, {}};
    EXPECT_NEAR(measure_resolution(*all, together, dataset, stream, 32, 5).value,
                measure_resolution(*one, alone, dataset, stream, 32, 5).value, 1e-12);
  }
}

TEST(EvaluatorRanks, AnyMeshScoresTasksTheSame) {
  const auto backend = make_reference_backend();
  const Context alone;
  const auto writer = random_model(tiny_config("blockwise", 256), alone, *backend);
  std::vector<ScoredText> texts = written_texts(*writer);
  texts[1].text.back() = static_cast<char>(texts[1].text.back() ^ 1);
  for (const Mesh& mesh : meshes(world()->size())) {
    const Context together(world(), mesh);
    const auto all = random_model(tiny_config("blockwise", 256), together, *backend);
    for (const std::int64_t chunk : {16, 4096}) {
      TaskScore result;
      score(result, *all, together, texts, chunk);
      EXPECT_EQ(result.answers.right(), 9) << mesh.describe() << " " << chunk;
      EXPECT_EQ(result.answers.of(), 10);
      EXPECT_EQ(result.bytes.of(), 20);
    }
  }
}

TEST(EvaluatorRanks, AnyMeshMeasuresTheSame) {
  for (const Mesh& mesh : meshes(world()->size())) expect_same_as_alone(mesh);
}

}  // namespace
}  // namespace lexring::testing
