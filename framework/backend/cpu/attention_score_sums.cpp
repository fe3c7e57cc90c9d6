#include "framework/backend/cpu/attention_workspace.h"
#include "framework/backend/cpu/kernels.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {
namespace {

/// Scores of one query head over one sequence, added up by distance.
template <class T>
void add_head(const AttentionScoreSums& call, const Side& queries, const Side& keys, std::int64_t sequence,
              std::int64_t head, std::vector<double>& sums, std::vector<std::int64_t>& counts) {
  using F = Factor<T>;
  Runtime& runtime = call.q.matrix.runtime();
  const std::int64_t width = call.form.head_width, stride = padded_width(width),
                     kv_head = head / (call.form.heads / call.form.kv_heads);
  std::vector<Tensor> memory;
  float* staging = take<float>(memory, runtime, key_tile * stride);
  float* query = take<float>(memory, runtime, query_tile * stride);
  float* scores = take<float>(memory, runtime, query_tile * key_tile);
  auto* left = take<Word<F>>(memory, runtime, query_tile * words<F>(width));
  auto* packed = take<Word<F>>(memory, runtime, packed_words<F>(width, key_tile));
  std::vector<float> factors(static_cast<std::size_t>(width / 2));
  const auto at = [&](std::int64_t row) { return call.rows->tokens.position[static_cast<std::size_t>(row)]; };
  const auto s = static_cast<std::size_t>(sequence);
  for (std::int64_t k = keys.first_tile[s]; k < keys.first_tile[s + 1]; ++k) {
    const TokenTile& key = keys.tiles[static_cast<std::size_t>(k)];
    rotate_rows(call.k.data<T>() + key.first * call.k.stride() + kv_head * width, call.k.stride(), keys.factors,
                key.first, key.count, width, 1.0F, staging, stride);
    pack_transposed<F>(staging, stride, width, key.count, packed);
    for (std::int64_t t = queries.first_tile[s]; t < queries.first_tile[s + 1]; ++t) {
      const TokenTile& tile = queries.tiles[static_cast<std::size_t>(t)];
      if (at(tile.first + tile.count - 1) < at(key.first)) continue;
      rotate_rows(call.q.data<T>() + tile.first * call.q.stride() + head * width, call.q.stride(), queries.factors,
                  tile.first, tile.count, width, static_cast<float>(call.form.scale) * log2_e, query, stride);
      const std::int64_t between = queries.base[static_cast<std::size_t>(t)] - keys.base[static_cast<std::size_t>(k)];
      if (between != 0) {
        pair_factors(call.form, static_cast<double>(between), factors.data());
        scale_pairs(query, stride, tile.count, width, factors.data(), query, stride);
      }
      pack_left<F>(query, stride, tile.count, width, left);
      tile_product<F>(tile.count, {left, words<F>(width), 1}, {packed, words<F>(width), key.count}, scores, key_tile,
                      false);
      if (call.form.caps()) cap_scores(call.form, {0, key.count, 0, tile.count}, scores);
      for (std::int64_t r = 0; r < tile.count; ++r) {
        for (std::int64_t c = 0; c < key.count; ++c) {
          const std::int64_t distance = at(tile.first + r) - at(key.first + c);
          if (distance < 0 || distance >= static_cast<std::int64_t>(sums.size())) continue;
          sums[static_cast<std::size_t>(distance)] += static_cast<double>(scores[r * key_tile + c] * ln_2);
          ++counts[static_cast<std::size_t>(distance)];
        }
      }
    }
  }
}

}  // namespace

void attention_score_sums(const AttentionScoreSums& call) {
  Runtime& runtime = call.q.matrix.runtime();
  const Side queries = make_side(call.form, call.rows->tokens, call.rows->rotary, AttentionRole::query, runtime);
  const Side keys = make_side(call.form, call.rows->tokens, call.rows->rotary, AttentionRole::key, runtime);
  const auto sequences = static_cast<std::int64_t>(call.rows->tokens.sequences.size());
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(call.form.heads),
                                        std::vector<double>(call.sums.size()));
  std::vector<std::vector<std::int64_t>> counts(static_cast<std::size_t>(call.form.heads),
                                                std::vector<std::int64_t>(call.counts.size()));
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    parallel_tasks(call.form.heads, [&, purpose = MemoryPurpose::current()](std::int64_t head) {
      const MemoryPurpose same(purpose);
      const auto h = static_cast<std::size_t>(head);
      for (std::int64_t s = 0; s < sequences; ++s) add_head<T>(call, queries, keys, s, head, sums[h], counts[h]);
    });
  });
  for (std::size_t h = 0; h < sums.size(); ++h) {
    for (std::size_t d = 0; d < call.sums.size(); ++d) call.sums[d] += sums[h][d], call.counts[d] += counts[h][d];
  }
}

}  // namespace lexring::cpu
