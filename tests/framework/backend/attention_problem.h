/// Attention as tests pose it: a form, a bias, two tables and a visibility, run by any backend in any dtype, in one
/// block or cut into several.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "tests/framework/backend/kernel_testing.h"

namespace lexring::testing {

struct AttentionProblem {
  std::string name;
  AttentionForm form;
  std::vector<float> slopes;  ///< [H] or empty
  Values by_distance;         ///< [H, distances] or empty; `relative`: [H, 3 P + 1], where c and threshold of the first
                              ///< head count for all
  bool relative = false;
  TokenTable queries, keys;
  Visibility visible;
  Values query_terms, key_terms;  ///< [N, 2 H], [M, 2 H], or empty
  double angle_step = 0.37;       ///< angle of pair i at position n: n * angle_step^(8 i / E)

  std::int64_t query_width() const { return form.query_width(); }
  std::int64_t key_width() const { return form.key_width(); }
  ScoreBias bias(Backend& backend, Dtype statistics) const;
};

/// What GoogleTest prints.
void PrintTo(const AttentionProblem& problem, std::ostream* os);

struct AttentionInputs {
  Values q, k, v, doutput;
};

struct AttentionResult {
  Values output, lse, delta, dq, dk, dv;
  Values dby_distance;              ///< empty without a table
  Values dquery_terms, dkey_terms;  ///< [N, H], [M, H]; empty without terms
};

/// How a run is cut: queries and keys into so many blocks each (of every sequence, in order of position).
struct Blocks {
  int queries = 1, keys = 1;
};

// ---- parts of problems

/// Heads H, key heads K of width E; method: "none", "rope", "xpos" (gamma 0.4, scale base 512), "steep" (decay of e^-1
/// per unit at most), "alibi", "table" (a bias by distance of 41 random entries a head), "alibi_table"; "capped" (0.8),
/// "clamped" (at -0.3), "relu", each alone or followed by "_alibi", "_table" or both; "fire", a bias by relative
/// distance, may stand for "table", and with "gate" in it rows have terms that fall as a forget gate's sums do.
AttentionForm make_form(const std::string& method, std::int64_t heads, std::int64_t kv_heads, std::int64_t width);
AttentionProblem make_problem(std::string name, const std::string& method, std::int64_t heads, std::int64_t kv_heads,
                              std::int64_t width, TokenTable queries, TokenTable keys, Visibility visible);

struct Span {
  std::int64_t id;
  std::vector<std::int64_t> positions;
};
TokenTable make_table(const std::vector<Span>& sequences);
/// Its tokens at coordinates that are no whole numbers, the first ones below 0.
TokenTable with_fractions(TokenTable table);
/// offset, offset + 1, ...
std::vector<std::int64_t> consecutive(std::int64_t count, std::int64_t offset = 0);
/// Random steps of 1 to `largest_gap`.
std::vector<std::int64_t> with_gaps(std::int64_t count, std::int64_t largest_gap, std::uint64_t seed);
/// Runs of `run` tokens, each starting where `starts` says.
std::vector<std::int64_t> clusters(const std::vector<std::int64_t>& starts, std::int64_t run);

/// pattern: "causal", "window" (size), "blockwise" (size), "chunked" (size), "sink_window" (4 sinks, size), "documents"
/// (new one about every size positions), "documents_sinks" (both), "holes" (causal, but every third query sees
/// nothing), "full" (both sides of the query), "full_documents" (both), "later" (what comes after it).
Visibility make_visibility(const std::string& pattern, std::int64_t size, const TokenTable& queries);

/// Rotation tables that hold numbers of f32 in every dtype; undefined without rotation.
RotaryTable make_rotary(Backend& backend, Dtype master, const AttentionProblem& problem, const TokenTable& tokens);

AttentionInputs random_inputs(const AttentionProblem& problem, std::uint64_t seed, double scale = 1.0);
AttentionInputs rounded_to(Dtype dtype, const AttentionInputs& inputs);

/// Forward, delta and backward. With `statistics`, backward reads lse and delta from there (rounded) instead of its own
/// forward pass, so that two backends' backward kernels are fed the same.
AttentionResult run_attention(Backend& backend, Dtype working, const AttentionProblem& problem,
                              const AttentionInputs& inputs, Blocks blocks = {},
                              const AttentionResult* statistics = nullptr);

}  // namespace lexring::testing
