// Attention over a ring of ranks equals that of one rank: reference backend in f64, so that every pair of rows must be
// met exactly once.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/parallel/sequence/sequence_problem.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

struct Named {
  const char* name;
  std::vector<Span> sequences;
};

const std::vector<Named>& batches() {
  static const std::vector<Named> all = {
      {"one", {{0, consecutive(61)}}},
      {"unequal", {{0, consecutive(37)}, {1, consecutive(1)}, {4, consecutive(5)}, {9, consecutive(22)}}},
      {"gaps", {{0, with_gaps(40, 9, 3)}, {2, with_gaps(23, 2, 4)}}},
      {"short", {{0, consecutive(1)}, {1, consecutive(2)}, {2, consecutive(1, 7)}}},  // ranks without tokens
      {"nothing", {}},
  };
  return all;
}

std::vector<PartitionKind> kinds() {
  return {PartitionKind::contiguous, PartitionKind::zigzag, PartitionKind::striped};
}

class SequenceAttention : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> reference_ = make_reference_backend();
  Communicator& ring_ = *world();

  void compare(const AttentionProblem& problem, PartitionKind kind, Exchange exchange, const std::string& what) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", problem.name, what, name_of(kind), name_of(exchange)));
    const WholeInputs inputs = whole_inputs(problem, 11);
    const WholeResult expected = run_whole(*reference_, Dtype::f64, problem, inputs);
    const auto tables = make_tables(*reference_, Dtype::f64, problem, kind, exchange, ring_.rank(), ring_.size());
    const WholeResult ours = run_on_ring(*reference_, Dtype::f64, problem, inputs, ring_, tables);
    const auto rows = row_indices(tables->partition->place_chunks(ring_.rank()));
    const std::int64_t width = problem.query_width(), fused = width + 2 * problem.key_width();
    EXPECT_LT(largest_difference(ours.output, rows_of(expected.output, rows, width)), tolerance::f64_reordered);
    EXPECT_LT(largest_difference(ours.dqkv, rows_of(expected.dqkv, rows, fused)), 10 * tolerance::f64_reordered);
    for (Values WholeResult::*const parts : {&WholeResult::dby_distance, &WholeResult::dsums}) {
      Values sum = ours.*parts;  // every place has its own queries' part
      ring_.all_reduce(std::span<double>(sum), Reduce::sum);
      EXPECT_LT(largest_difference(sum, expected.*parts), 10 * tolerance::f64_reordered);
    }
  }
};

TEST_F(SequenceAttention, EveryPatternPartitionAndExchangeEqualsOneRank) {
  for (const Named& batch : batches()) {
    for (const char* pattern : {"causal", "window", "blockwise", "sink_window", "documents", "documents_sinks", "holes",
                                "full", "full_documents"}) {
      const AttentionProblem problem = self_problem("xpos", pattern, 9, 4, 2, 6, batch.sequences);
      for (const PartitionKind kind : kinds()) {
        for (const Exchange exchange : {Exchange::ring, Exchange::halo}) compare(problem, kind, exchange, batch.name);
      }
    }
  }
}

TEST_F(SequenceAttention, EveryMethodAndGroupingOfHeadsEqualsOneRank) {
  for (const char* method : {"none", "rope", "xpos", "steep", "alibi", "alibi_table", "capped_table", "clamped_alibi",
                             "relu_alibi_table", "gate_alibi", "relu_gate"}) {
    for (const std::int64_t kv_heads : {1, 2, 6}) {
      const AttentionProblem problem = self_problem(method, "causal", 0, 6, kv_heads, 4, batches()[1].sequences);
      for (const PartitionKind kind : kinds())
        compare(problem, kind, Exchange::automatic, fmt::format("{} key heads", kv_heads));
    }
  }
}

TEST_F(SequenceAttention, KeysOnBothSidesOfTheQueryEqualOneRank) {
  for (const char* method : {"rope", "alibi_table", "relu_alibi_table"}) {
    const AttentionProblem problem = self_problem(method, "full", 0, 4, 2, 4, batches()[1].sequences);
    for (const PartitionKind kind : kinds()) compare(problem, kind, Exchange::automatic, "both sides");
  }
}

TEST_F(SequenceAttention, AWindowLongerThanAChunkAndAFewSinksReachAcrossSeveralPlaces) {
  const std::vector<Span> sequences = {{0, consecutive(48)}, {1, consecutive(31)}};
  for (const std::int64_t window : {1, 2, 17, 30, 100}) {
    for (const char* pattern : {"window", "sink_window", "blockwise"}) {
      const AttentionProblem problem = self_problem("alibi", pattern, window, 2, 1, 4, sequences);
      for (const PartitionKind kind : kinds()) {
        for (const Exchange exchange : {Exchange::ring, Exchange::halo, Exchange::automatic})
          compare(problem, kind, exchange, fmt::format("extent {}", window));
      }
    }
  }
}

/// Own keys are met in several parts, arriving ones in several segments.
TEST_F(SequenceAttention, ManyRowsOnARankEqualOneRank) {
  const auto cpu = make_cpu_backend();
  const std::int64_t rows = std::min(ring_.size(), 2) * 18000;
  const AttentionProblem problem = self_problem("xpos", "window", 40, 1, 1, 8, {{0, consecutive(rows)}});
  const WholeInputs inputs = whole_inputs(problem, 11);
  const WholeResult expected = run_whole(*cpu, Dtype::f32, problem, inputs);
  for (const PartitionKind kind : {PartitionKind::contiguous, PartitionKind::zigzag}) {
    for (const Exchange exchange : {Exchange::ring, Exchange::halo}) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(kind), name_of(exchange)));
      const auto tables = make_tables(*cpu, Dtype::f32, problem, kind, exchange, ring_.rank(), ring_.size());
      const WholeResult ours = run_on_ring(*cpu, Dtype::f32, problem, inputs, ring_, tables);
      const auto own = row_indices(tables->partition->place_chunks(ring_.rank()));
      EXPECT_LT(relative_error(ours.output, rows_of(expected.output, own, 8)), tolerance::f32_attention);
      EXPECT_LT(relative_error(ours.dqkv, rows_of(expected.dqkv, own, 24)), tolerance::f32_attention_backward);
    }
  }
}

TEST_F(SequenceAttention, BytesSentAreThoseOfTheSchedule) {
  const std::vector<Span> sequences = {{0, consecutive(61)}, {1, consecutive(18)}};
  for (const char* pattern : {"causal", "window", "sink_window", "documents"}) {
    const AttentionProblem problem = self_problem("xpos", pattern, 9, 4, 2, 6, sequences);
    for (const PartitionKind kind : kinds()) {
      for (const Exchange exchange : {Exchange::ring, Exchange::halo}) {
        const auto tables = make_tables(*reference_, Dtype::f64, problem, kind, exchange, ring_.rank(), ring_.size());
        const auto group = ring_.split("bytes", 0);
        run_on_ring(*reference_, Dtype::f64, problem, whole_inputs(problem, 1), *group, tables);
        const Traffic traffic = tables->schedule.traffic(group->rank());
        std::uint64_t sent = 0;
        for (const CommRecord& record : group->records()) sent += record.bytes;
        EXPECT_EQ(sent, static_cast<std::uint64_t>(2 * traffic.rows + traffic.gradients) * 2 * 12 * 8)
            << pattern << name_of(kind);
      }
    }
  }
}

/// One row's keys and values are changed: exactly the rows that the mask lets see it change.
TEST_F(SequenceAttention, APerturbedRowChangesExactlyTheRowsThatSeeIt) {
  for (const char* pattern : {"causal", "window", "blockwise", "sink_window", "documents", "full", "full_documents"}) {
    const AttentionProblem problem = self_problem("xpos", pattern, 9, 2, 1, 4, batches()[1].sequences);
    const std::int64_t width = problem.query_width(), fused = width + 2 * problem.key_width(),
                       all = problem.queries.rows();
    for (const PartitionKind kind : kinds()) {
      const auto tables =
          make_tables(*reference_, Dtype::f64, problem, kind, Exchange::automatic, ring_.rank(), ring_.size());
      const auto rows = row_indices(tables->partition->place_chunks(ring_.rank()));
      const WholeInputs inputs = whole_inputs(problem, 5);
      const Values before = run_on_ring(*reference_, Dtype::f64, problem, inputs, ring_, tables).output;
      for (const std::int64_t changed : {std::int64_t{0}, std::int64_t{20}, std::int64_t{39}, all - 3}) {
        WholeInputs other = inputs;
        for (std::int64_t i = width; i < fused; ++i) other.qkv[static_cast<std::size_t>(changed * fused + i)] += 0.5;
        const Values after = run_on_ring(*reference_, Dtype::f64, problem, other, ring_, tables).output;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const auto at = [&](const Values& v) {
            return std::vector<double>(v.begin() + static_cast<std::ptrdiff_t>(i) * width,
                                       v.begin() + static_cast<std::ptrdiff_t>(i + 1) * width);
          };
          const auto n = static_cast<std::size_t>(rows[i]), m = static_cast<std::size_t>(changed);
          const auto sequence_of = [&](std::int64_t row) {
            std::int64_t id = -1;
            for (const auto& s : problem.queries.sequences) id = row >= s.first ? s.id : id;
            return id;
          };
          const Visibility& v = problem.visible;
          const std::int64_t key = problem.queries.position[m];
          const bool sink = !v.sink_begin.empty() && key >= v.sink_begin[n] && key < v.sink_end[n];
          const std::int64_t query = problem.queries.position[n];
          const bool near = key >= v.first[n] && key < v.end_of(n, query);
          const bool sees = sequence_of(rows[i]) == sequence_of(changed) && (near || (sink && key <= query));
          EXPECT_EQ(at(before) != at(after), sees)
              << pattern << " " << name_of(kind) << ": row " << rows[i] << ", changed " << changed;
        }
      }
    }
  }
}

/// ||ours - expected|| / ||expected|| over the rows of all ranks.
double error_of_all(Communicator& ring, const Values& ours, const Values& expected) {
  std::vector<double> squares(2);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    squares[0] += (ours[i] - expected[i]) * (ours[i] - expected[i]);
    squares[1] += expected[i] * expected[i];
  }
  ring.all_reduce(std::span<double>(squares), Reduce::sum);
  return std::sqrt(squares[0] / squares[1]);
}

/// The cpu backend against the reference in f64: over the ring as good as alone, at a million positions as at a
/// thousand.
TEST_F(SequenceAttention, ErrorsDoNotGrowWithRanksOrPosition) {
  const auto cpu = make_cpu_backend();
  for (const char* method : {"xpos", "alibi", "gate"}) {
    double at_zero[2][2] = {};
    for (const std::int64_t offset : {0, 1000000}) {
      const AttentionProblem problem =
          self_problem(method, "causal", 0, 4, 2, 16,
                       {{0, consecutive(120, offset)}, {1, clusters({offset, offset + 3000, offset + 400000}, 50)}});
      for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
        const WholeInputs inputs = rounded_to(working, whole_inputs(problem, 3));
        const WholeResult expected = run_whole(*reference_, Dtype::f64, problem, inputs),
                          alone = run_whole(*cpu, working, problem, inputs);
        for (const PartitionKind kind : kinds()) {
          SCOPED_TRACE(fmt::format("{} from {} {} {}", method, offset, name_of(working), name_of(kind)));
          const auto tables = make_tables(*cpu, working, problem, kind, Exchange::ring, ring_.rank(), ring_.size());
          const WholeResult ours = run_on_ring(*cpu, working, problem, inputs, ring_, tables);
          const auto rows = row_indices(tables->partition->place_chunks(ring_.rank()));
          const std::int64_t width = problem.query_width(), fused = width + 2 * problem.key_width();
          const auto errors = [&](const Values& output, const Values& dqkv) {
            return std::array{error_of_all(ring_, output, rows_of(expected.output, rows, width)),
                              error_of_all(ring_, dqkv, rows_of(expected.dqkv, rows, fused))};
          };
          const auto here = errors(ours.output, ours.dqkv),
                     one = errors(rows_of(alone.output, rows, width), rows_of(alone.dqkv, rows, fused));
          for (std::size_t i = 0; i < 2; ++i) {
            EXPECT_LT(here[i], 1.5 * one[i]) << (i == 0 ? "forward" : "backward");
            double& near = at_zero[working == Dtype::bf16][i];
            if (offset == 0) near = std::max(near, here[i]);
            EXPECT_LT(here[i], 1.5 * near) << "at zero " << near;
          }
          RecordProperty(fmt::format("{}_{}_{}_{}", method, offset, name_of(working), name_of(kind)),
                         fmt::format("{:.2e} {:.2e} alone {:.2e} {:.2e}", here[0], here[1], one[0], one[1]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace lexring::testing
