#include <algorithm>

#include "framework/backend/cuda/attention_plain_scores.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int tile_rows = 64;
constexpr int per_thread = tile_rows / square, warps = plain_threads / warp_size;
constexpr std::int64_t workspace_bytes = 64 << 20;

/// At one distance.
struct Sum {
  double scores, pairs;  ///< pairs are counted without loss up to 2^53
};

template <class T>
struct Scores {
  Operand<T> q, k;
  const QueryTile* queries;
  const KeyTile* keys;
  const std::int32_t* position;
  const LogDecay* decay;  ///< null: none
  int query_tiles, heads, group, pairs, parts;
  std::int64_t distances;
  double scale, cap;  ///< cap: soft, 0 without
  Sum* sums;          ///< [parts * heads * warps, distances]
};

template <int width>
struct Shared {
  RowTile<tile_rows, width> query, key;
  WeightTile<tile_rows, tile_rows> products;
  float factors[width / 2];
};

/// Sums of one head over every `parts`th tile of queries. A warp adds its own rows to sums of its own, row after row:
/// the keys of one row all have different distances.
template <int width, class T>
__global__ void __launch_bounds__(plain_threads) sum_by_distance(const Scores<T> call) {
  auto& shared = shared_memory<Shared<width>>();
  const Place place;
  const int head = static_cast<int>(blockIdx.x) % call.heads, part = static_cast<int>(blockIdx.x) / call.heads;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size;
  Sum* const sums = call.sums + (static_cast<std::int64_t>(blockIdx.x) * warps + warp) * call.distances;
  for (std::int64_t d = lane; d < call.distances; d += warp_size) sums[d] = {0.0, 0.0};
  __syncwarp();
  for (int t = part; t < call.query_tiles; t += call.parts) {
    const QueryTile tile = call.queries[t];
    for (int k = tile.tiles_begin; k < tile.tiles_end; ++k) {
      const KeyTile keys = call.keys[k];
      if (call.position[tile.first] - call.position[keys.first + keys.count - 1] >= call.distances) continue;
      __syncthreads();  // the tiles before have been read
      const bool scaled = keys.base != tile.base;
      if (scaled) {
        put_factors<width>(shared.factors, call.decay, call.pairs, tile.base - keys.base);
        __syncthreads();
      }
      load_tile(shared.query, call.q, head, tile.first, tile.count, scaled ? shared.factors : nullptr);
      load_tile(shared.key, call.k, head / call.group, keys.first, keys.count);
      __syncthreads();
      float products[per_thread][per_thread];
      multiply<width>(shared.query, shared.key, place, products);
      put_weights(shared.products, place, products);
      __syncwarp();
      for (int i = 0; i < tile_rows / warps; ++i) {  // the warp's rows: those of its threads
        const int row = 2 * warp + i % 2 + i / 2 * square;
        if (row < tile.count) {
          for (int column = lane; column < keys.count; column += warp_size) {
            const std::int64_t distance = call.position[tile.first + row] - call.position[keys.first + column];
            if (distance < 0 || distance >= call.distances) continue;
            const double score = static_cast<double>(shared.products.at[row][column]) * call.scale;
            sums[distance].scores += call.cap > 0.0 ? call.cap * tanh(score / call.cap) : score;
            sums[distance].pairs += 1.0;
          }
        }
        __syncwarp();
      }
    }
  }
}

constexpr int threads = 128;

/// total[d] = sum over `count` rows of [count, distances]. Bytes: what is read.
__global__ void __launch_bounds__(threads)
    add_up(const Sum* sums, std::int64_t count, std::int64_t distances, Sum* total) {
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (d >= distances) return;
  Sum sum{0.0, 0.0};
  for (std::int64_t i = 0; i < count; ++i) {
    const Sum part = sums[i * distances + d];
    sum.scores += part.scores, sum.pairs += part.pairs;
  }
  total[d] = sum;
}

}  // namespace

void attention_score_sums(const Gpu& gpu, const AttentionScoreSums& call) {
  const AttentionForm& form = call.form;
  const auto distances = static_cast<std::int64_t>(call.sums.size());
  if (distances == 0 || call.rows->tokens.rows() == 0) return;
  const SharedRows everything =
      make_rows(call.rows->tokens, call.rows->rotary,
                {std::vector<std::int64_t>(call.rows->tokens.position.size(), 0), {}, {}, {}});
  const ScoreBias none;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, none, everything, everything, tile_rows, tile_rows);
  const Tensor position =
      Tensor::from(gpu.runtime, {call.rows->tokens.rows()},
                   std::vector<std::int32_t>(call.rows->tokens.position.begin(), call.rows->tokens.position.end()));

  const std::int64_t of_part = form.heads * warps * distances * static_cast<std::int64_t>(sizeof(Sum));
  const auto parts = std::clamp<std::int64_t>(workspace_bytes / of_part, 1, tables.query_tiles_count);
  const std::int64_t count = parts * form.heads * warps;
  const Tensor sums(gpu.runtime, {count, distances, 2}, Dtype::f64), total(gpu.runtime, {distances, 2}, Dtype::f64);
  const auto records = [](const Tensor& x) { return reinterpret_cast<Sum*>(x.data<double>()); };
  const std::int64_t width = vector_width(form.head_width);
  const RotaryTable rotary = form.rotary ? call.rows->rotary : RotaryTable{};
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    const HeadRows q = turned_rows(gpu, call.q, form.heads, width, rotary, tables.query_distance, tables.decay);
    const HeadRows k = turned_rows(gpu, call.k, form.kv_heads, width, rotary, tables.key_distance, tables.decay);
    const Scores<T> task{operand<T>(q),
                         operand<T>(k),
                         tables.queries(),
                         tables.keys(),
                         position.data<std::int32_t>(),
                         score_rule(form, none, {}, tables).decay,
                         tables.query_tiles_count,
                         static_cast<int>(form.heads),
                         static_cast<int>(form.heads / form.kv_heads),
                         static_cast<int>(form.head_width / 2),
                         static_cast<int>(parts),
                         distances,
                         form.scale,
                         form.softcap,
                         records(sums)};
    with_head_width(form.head_width, [&]<int padded>(HeadWidth<padded>) {
      launch(gpu.stream, dim3(static_cast<unsigned>(parts * form.heads)), plain_threads, sizeof(Shared<padded>),
             sum_by_distance<padded, T>, task);
    });
  });
  launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(distances, threads))), threads, 0, add_up,
         records(sums), count, distances, records(total));

  const std::vector<double> results = total.to_host<double>();
  for (std::size_t d = 0; d < call.sums.size(); ++d) {
    const double pairs = results[2 * d + 1];
    call.sums[d] += results[2 * d];
    call.counts[d] += static_cast<std::int64_t>(pairs);
  }
}

}  // namespace lexring::cuda
