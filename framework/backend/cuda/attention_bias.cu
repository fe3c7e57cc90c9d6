#include <algorithm>

#include "framework/backend/cuda/attention_bias.h"
#include "framework/backend/cuda/attention_plain_scores.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int tile_rows = 64;
constexpr int per_thread = tile_rows / square, warps = plain_threads / warp_size;
constexpr std::int64_t workspace_bytes = 64 << 20;

template <class T>
struct BiasGradient {
  Operand<T> q, k, v, doutput;
  ScoreRule rule;
  const float *lse, *delta;
  const QueryTile* queries;
  const KeyTile* keys;
  int query_tiles, heads, group, parts;
  int copies;   ///< of a warp's sums: one, or, by relative distance, one for each lane
  float* sums;  ///< [parts * heads * warps * copies, distances]
};

/// Adds the gradient of one score to a RelativeRow of sums.
__device__ inline void add_relative(const HeadBias& bias, int query, int key, float rate, float gradient, float* sums) {
  const RelativePlace at = bias.place(query, key, rate);
  const float c = bias.table[2 * bias.pieces], threshold = bias.table[2 * bias.pieces + 1];
  const float far = fmaxf(static_cast<float>(query), threshold), step = -rate * rate / (1.0F + c * far);
  const float sloped = gradient * bias.table[at.piece];
  sums[at.piece] += gradient * at.x;
  sums[bias.pieces + at.piece] += gradient;
  sums[2 * bias.pieces] += sloped * (at.log_by_c * rate + at.log * step * far);
  if (static_cast<float>(query) < threshold) sums[2 * bias.pieces + 1] += sloped * at.log * step * c;
}

template <int width>
struct Shared {
  RowTile<tile_rows, width> query, key;
  WeightTile<tile_rows, tile_rows> gradients;
  float factors[width / 2];
  QueryRows<tile_rows> query_rows;
  KeyRows<tile_rows> key_rows;
};

/// Gradients of the scores of one head, over every `parts`th tile of queries. A warp adds its own rows to sums of its
/// own, row after row: the keys of one row all have different distances, but for those beyond the table, which count
/// at its end. By relative distance several are in one piece, so that each lane has sums of its own.
template <int width, class T>
__global__ void __launch_bounds__(plain_threads) sum_gradients(const BiasGradient<T> call) {
  auto& shared = shared_memory<Shared<width>>();
  const ScoreRule& rule = call.rule;
  const Place place;
  const int head = static_cast<int>(blockIdx.x) % call.heads, part = static_cast<int>(blockIdx.x) / call.heads;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size;
  const HeadBias bias = rule.bias(head);
  const int columns = rule.distances * call.copies;
  float* const sums = call.sums + (static_cast<std::int64_t>(blockIdx.x) * warps + warp) * columns;
  for (int d = lane; d < columns; d += warp_size) sums[d] = 0.0F;
  __syncwarp();
  for (int t = part; t < call.query_tiles; t += call.parts) {
    const QueryTile tile = call.queries[t];
    float lse[per_thread], delta[per_thread];
    LEXRING_UNROLL for (int i = 0; i < per_thread; ++i) {
      const int row = place.row + i * square;
      const std::int64_t at = static_cast<std::int64_t>(tile.first + row) * call.heads + head;
      lse[i] = row < tile.count ? call.lse[at] * log2_e : 0.0F;
      delta[i] = row < tile.count ? call.delta[at] : 0.0F;
    }
    for (int k = 0; k < tiles_met(tile); ++k) {
      const KeyTile keys = call.keys[tile_met(tile, k)];
      __syncthreads();  // the tiles before have been read
      const bool scaled = keys.base != tile.base;
      if (scaled) {
        put_factors<width>(shared.factors, rule.decay, rule.pairs, tile.base - keys.base);
        __syncthreads();
      }
      load_tile(shared.query, call.q, head, tile.first, tile.count, scaled ? shared.factors : nullptr);
      load_tile(shared.key, call.k, head / call.group, keys.first, keys.count);
      shared.query_rows.put(rule, head, tile.first, tile.count);
      shared.key_rows.put(rule, head, keys.first, keys.count);
      __syncthreads();
      float scores[per_thread][per_thread], gradients[per_thread][per_thread];
      multiply<width>(shared.query, shared.key, place, scores);
      __syncthreads();
      load_tile(shared.query, call.doutput, head, tile.first, tile.count);
      load_tile(shared.key, call.v, head / call.group, keys.first, keys.count);
      __syncthreads();
      multiply<width>(shared.query, shared.key, place, gradients);
      LEXRING_UNROLL for (int i = 0; i < per_thread; ++i) {
        const int row = place.row + i * square;
        LEXRING_UNROLL for (int j = 0; j < per_thread; ++j) {
          const int column = place.column + j * square;
          const std::int32_t query = shared.query_rows.position[row], key = shared.key_rows.position[column];
          const float score =
              rule.capped(scores[i][j] * rule.scale) + bias_of(bias, shared.query_rows, row, shared.key_rows, column);
          const bool seen = row < tile.count && column < keys.count && rule.counts(score, query, key) &&
                            sees(shared.query_rows.range[row], keys.first + column);
          gradients[i][j] = seen ? Differential(rule, score, lse[i], gradients[i][j], delta[i]).gradient : 0.0F;
        }
      }
      put_weights(shared.gradients, place, gradients);
      __syncwarp();
      for (int i = 0; i < tile_rows / warps; ++i) {  // the warp's rows: those of its threads
        const int row = 2 * warp + i % 2 + i / 2 * square;
        if (bias.pieces > 0) {
          for (int column = lane; column < tile_rows; column += warp_size) {
            const float gradient = shared.gradients.at[row][column];
            if (gradient == 0.0F) continue;
            add_relative(bias, shared.query_rows.position[row], shared.key_rows.position[column],
                         shared.query_rows.rate[row], gradient, sums + lane * rule.distances);
          }
          continue;
        }
        float beyond = 0.0F;
        for (int column = lane; column < tile_rows; column += warp_size) {
          const float gradient = shared.gradients.at[row][column];
          const int entry = bias.entry(shared.query_rows.position[row], shared.key_rows.position[column]);
          if (entry == bias.last) beyond += gradient;
          else if (gradient != 0.0F) sums[entry] += gradient;
        }
        beyond = warp_sum(beyond);
        if (lane == 0) sums[bias.last] += beyond;
        __syncwarp();
      }
    }
  }
}

constexpr int threads = 128;

/// total[h, d] += sum over parts and copies of sums [parts, heads, copies, distances]. Bytes: what is read.
__global__ void __launch_bounds__(threads)
    add_up(const float* sums, int parts, int heads, int copies, int distances, float* total) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= static_cast<std::int64_t>(heads) * distances) return;
  const std::int64_t head = at / distances, distance = at % distances;
  double sum = 0.0;
  for (std::int64_t part = 0; part < parts; ++part) {
    const float* const own = sums + (part * heads + head) * copies * distances + distance;
    for (int copy = 0; copy < copies; ++copy)
      sum += static_cast<double>(own[static_cast<std::int64_t>(copy) * distances]);
  }
  total[at] += static_cast<float>(sum);
}

}  // namespace

void bias_gradient(const Gpu& gpu, const AttentionBackward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, tile_rows, tile_rows);
  if (tables.query_tiles_count == 0) return;
  const std::int64_t distances = call.bias.distances(), width = vector_width(form.head_width);
  const std::int64_t copies = call.bias.relative() ? warp_size : 1;
  const auto parts = std::clamp<std::int64_t>(
      workspace_bytes / (form.heads * warps * copies * distances * static_cast<std::int64_t>(sizeof(float))), 1,
      tables.query_tiles_count);
  const Tensor sums(gpu.runtime, {parts * form.heads * warps * copies, distances}, Dtype::f32);
  const RotaryTable none, query_rotary = form.rotary ? call.queries->rotary : none,
                          key_rotary = form.rotary ? call.keys->rotary : none;
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    const HeadRows q = turned_rows(gpu, call.q, form.heads, width, query_rotary, tables.query_distance, tables.decay);
    const HeadRows k = turned_rows(gpu, call.k, form.kv_heads, width, key_rotary, tables.key_distance, tables.decay);
    const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, none, {}, {});
    const HeadRows doutput =
        turned_rows(gpu, Columns(call.doutput, 0, form.query_width()), form.heads, width, none, {}, {});
    const BiasGradient<T> task{operand<T>(q),
                               operand<T>(k),
                               operand<T>(v),
                               operand<T>(doutput),
                               score_rule(form, call.bias, call.row_terms, tables),
                               call.lse.data<float>(),
                               call.delta.data<float>(),
                               tables.queries(),
                               tables.keys(),
                               tables.query_tiles_count,
                               static_cast<int>(form.heads),
                               static_cast<int>(form.group()),
                               static_cast<int>(parts),
                               static_cast<int>(copies),
                               sums.data<float>()};
    with_head_width(form.head_width, [&]<int padded>(HeadWidth<padded>) {
      launch(gpu.stream, dim3(static_cast<unsigned>(parts * form.heads)), plain_threads, sizeof(Shared<padded>),
             sum_gradients<padded, T>, task);
    });
  });
  launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(form.heads * distances, threads))), threads, 0,
         add_up, sums.data<float>(), static_cast<int>(parts), static_cast<int>(form.heads),
         static_cast<int>(warps * copies), static_cast<int>(distances), call.dby_distance.data<float>());
}

}  // namespace lexring::cuda
