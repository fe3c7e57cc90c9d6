/// Attention over a ring as tests pose it: the whole problem on every rank, run at once by one rank and in parts by
/// all.
#pragma once

#include <memory>

#include "parallel/sequence/attention.h"
#include "tests/framework/backend/attention_problem.h"

namespace lexring::testing {

/// Queries and keys are the same rows here.
AttentionProblem self_problem(const std::string& method, const std::string& pattern, std::int64_t extent,
                              std::int64_t heads, std::int64_t kv_heads, std::int64_t width,
                              const std::vector<Span>& sequences);

/// Tables of any rows, angles computed in f64 and rounded to the dtype (f32 or f64).
RotaryMaker rotary_maker(Backend& backend, Dtype dtype, const AttentionProblem& problem);

struct WholeInputs {
  Values qkv, doutput;  ///< [N, (H + 2K) E], [N, H E]
};
WholeInputs whole_inputs(const AttentionProblem& problem, std::uint64_t seed);
WholeInputs rounded_to(Dtype dtype, const WholeInputs& inputs);

struct WholeResult {
  Values output, dqkv;
  Values dby_distance;  ///< of these rows; empty without a table
  Values dsums;         ///< [N, H] likewise; empty without terms of rows
};
/// By the plain operation of one rank.
WholeResult run_whole(Backend& backend, Dtype working, const AttentionProblem& problem, const WholeInputs& inputs);

/// What this rank's rows should be.
Values rows_of(const Values& whole, const std::vector<std::int64_t>& rows, std::int64_t width);

std::shared_ptr<const SequenceTables> make_tables(Backend& backend, Dtype working, const AttentionProblem& problem,
                                                  PartitionKind kind, Exchange exchange, int place, int ring);

/// By sequence_attention: this rank's rows of output and dqkv.
WholeResult run_on_ring(Backend& backend, Dtype working, const AttentionProblem& problem, const WholeInputs& inputs,
                        Communicator& ring, const std::shared_ptr<const SequenceTables>& tables);

}  // namespace lexring::testing
