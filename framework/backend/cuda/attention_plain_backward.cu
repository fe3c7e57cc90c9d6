#include "framework/backend/cuda/attention_plain_scores.h"
#include "framework/backend/dispatch.h"

// Two kernels, so that every sum has one owner and one order: dq by tiles of queries, dk and dv by tiles of keys.
// Either keeps its own side in shared memory, and the other comes by in parts of 32 rows. Both compute the weights
// anew.

namespace lexring::cuda {
namespace {

template <int width>
constexpr int own_rows = width <= 128 ? 64 : 32;  ///< rows of a tile
constexpr int part_rows = 32;
constexpr int part_columns = part_rows / square;

std::int64_t rows_of_tiles(std::int64_t head_width) { return head_width <= 128 ? own_rows<128> : own_rows<256>; }

template <class T>
struct Backward {
  Operand<T> q, k, v, doutput;
  ScoreRule rule;
  const float *lse, *delta;
  const QueryTile* queries;
  const KeyTile* keys;
  int query_tiles, heads, kv_heads, width;
  float scale;  ///< natural
  bool query_first, key_first, key_last;
  float *dq, *dk;   ///< [N, H * E], [M, K * E], in the tiles' base
  float* dv_state;  ///< [M, K * E]; null with key_first and key_last
  float* dv_float;  ///< with key_last: one of these two
  T* dv;
  std::int64_t dv_stride;
  float *dquery_terms, *dkey_terms;  ///< [N, H], [M, H]; null without
};

/// Weights and gradients of scores, of a thread's pairs.
template <int m>
struct Pairs {
  float weight[m][part_columns], gradient[m][part_columns];
};

// ---- dq

template <int width>
struct QueryShared {
  static constexpr int rows = own_rows<width>;
  RowTile<rows, width> query, doutput;
  RowTile<part_rows, width> key, value;
  WeightTile<rows, part_rows> gradients;
  float factors[width / 2];
  QueryRows<rows> query_rows;
  KeyRows<part_rows> key_rows;
};

/// dq of a tile of queries of one head. Bytes: q and dO once, k and v once per tile of queries.
template <int width, class T>
__global__ void __launch_bounds__(plain_threads, width <= 128 ? 2 : 1) backward_queries(const Backward<T> call) {
  using Tiles = QueryShared<width>;
  constexpr int m = Tiles::rows / square;
  auto& shared = shared_memory<Tiles>();
  const ScoreRule& rule = call.rule;
  const Place place;
  const int head = static_cast<int>(blockIdx.x) % call.heads, key_head = head / (call.heads / call.kv_heads);
  const QueryTile tile = call.queries[call.query_tiles - 1 - static_cast<int>(blockIdx.x) / call.heads];
  const HeadBias bias = rule.bias(head);
  float lse[m], delta[m], sums[m][width / square] = {}, of_row[m] = {};
  LEXRING_UNROLL for (int i = 0; i < m; ++i) {
    const int row = place.row + i * square;
    const std::int64_t at = static_cast<std::int64_t>(tile.first + row) * call.heads + head;
    lse[i] = row < tile.count ? call.lse[at] * log2_e : 0.0F;
    delta[i] = row < tile.count ? call.delta[at] : 0.0F;
  }
  shared.query_rows.put(rule, head, tile.first, tile.count);
  load_tile(shared.doutput, call.doutput, head, tile.first, tile.count);
  load_tile(shared.query, call.q, head, tile.first, tile.count);

  bool fresh = call.query_first;  // dq holds nothing yet
  int base = tile.base;           // of the keys that the queries in shared memory are scaled to meet
  const auto leave_base = [&] {
    LEXRING_UNROLL for (int i = 0; i < m; ++i) {
      const int row = place.row + i * square;
      if (row >= tile.count) continue;
      float* const dq = call.dq + (static_cast<std::int64_t>(tile.first + row) * call.heads + head) * call.width;
      for_channels<width>(place.column, call.width, [&](int c, int channel) {
        const float sum = base != tile.base ? sums[i][c] * shared.factors[channel / 2] : sums[i][c];
        dq[channel] = fresh ? sum : dq[channel] + sum;
      });
      LEXRING_UNROLL for (int c = 0; c < width / square; ++c) sums[i][c] = 0.0F;
    }
    fresh = false;
  };

  for (int t = 0; t < tiles_met(tile); ++t) {
    const KeyTile keys = call.keys[tile_met(tile, t)];
    if (keys.base != base) {
      if (t > 0) leave_base();
      base = keys.base;
      __syncthreads();
      put_factors<width>(shared.factors, rule.decay, rule.pairs, tile.base - base);
      __syncthreads();
      load_tile(shared.query, call.q, head, tile.first, tile.count, shared.factors);
    }
    for (int begin = 0; begin < keys.count; begin += part_rows) {
      const int first = keys.first + begin, count = keys.count - begin < part_rows ? keys.count - begin : part_rows;
      __syncthreads();  // the part before has been read
      load_tile(shared.key, call.k, key_head, first, count);
      load_tile(shared.value, call.v, key_head, first, count);
      shared.key_rows.put(rule, head, first, count);
      __syncthreads();
      Pairs<m> pairs;
      multiply<width>(shared.query, shared.key, place, pairs.weight);
      multiply<width>(shared.doutput, shared.value, place, pairs.gradient);
      const bool masked = count < part_rows || !seen_whole(tile, first, count);
      LEXRING_UNROLL for (int i = 0; i < m; ++i) {
        const int row = place.row + i * square;
        LEXRING_UNROLL for (int j = 0; j < part_columns; ++j) {
          const int column = place.column + j * square;
          float score = rule.capped(pairs.weight[i][j] * rule.scale);
          const float scale = call.scale * rule.slope(score);
          if (rule.biased()) score += bias_of(bias, shared.query_rows, row, shared.key_rows, column);
          float gradient = Differential(rule, score, lse[i], pairs.gradient[i][j], delta[i]).gradient;
          if (rule.biased() && !rule.counts(score, shared.query_rows.position[row], shared.key_rows.position[column]))
            gradient = 0.0F;
          if (masked && !(column < count && sees(shared.query_rows.range[row], first + column))) gradient = 0.0F;
          of_row[i] += gradient;
          pairs.gradient[i][j] = gradient * scale;
        }
      }
      put_weights(shared.gradients, place, pairs.gradient);
      __syncwarp();
      carry<width>(shared.gradients, shared.key, place, sums);
    }
  }
  leave_base();
  if (call.dquery_terms == nullptr) return;
  LEXRING_UNROLL for (int i = 0; i < m; ++i) {
    const float sum = row_sum(of_row[i]);
    const int row = place.row + i * square;
    if (place.column == 0 && row < tile.count)
      call.dquery_terms[static_cast<std::int64_t>(tile.first + row) * call.heads + head] += sum;
  }
}

// ---- dk and dv

template <int width>
struct KeyShared {
  static constexpr int rows = own_rows<width>;
  RowTile<rows, width> key, value;
  RowTile<part_rows, width> query, doutput;
  WeightTile<rows, part_rows> weights;
  float factors[width / 2];
  QueryRows<part_rows> query_rows;
  KeyRows<rows> key_rows;
  float lse[part_rows], delta[part_rows];
};

/// dk and dv of a tile of keys of one key head, over all query heads that read it. Bytes: k and v once, q and dO once
/// per tile of keys.
template <int width, class T>
__global__ void __launch_bounds__(plain_threads, width <= 128 ? 2 : 1) backward_keys(const Backward<T> call) {
  using Tiles = KeyShared<width>;
  constexpr int m = Tiles::rows / square;
  auto& shared = shared_memory<Tiles>();
  const ScoreRule& rule = call.rule;
  const Place place;
  const int key_head = static_cast<int>(blockIdx.x) % call.kv_heads, group = call.heads / call.kv_heads;
  const int own =
      static_cast<int>(blockIdx.x) / call.kv_heads;  // early tiles first: under a causal mask they take longest
  const KeyTile tile = call.keys[own];
  float dk[m][width / square] = {}, dv[m][width / square] = {};
  const auto for_rows = [&](const auto& body) {
    LEXRING_UNROLL for (int i = 0; i < m; ++i) {
      const int row = place.row + i * square;
      if (row < tile.count) body(i, static_cast<std::int64_t>(tile.first + row));
    }
  };
  if (!call.key_first) {
    for_rows([&](int i, std::int64_t row) {
      const std::int64_t at = (row * call.kv_heads + key_head) * call.width;
      for_channels<width>(place.column, call.width, [&](int c, int channel) {
        dk[i][c] = call.dk[at + channel], dv[i][c] = call.dv_state[at + channel];
      });
    });
  }
  load_tile(shared.key, call.k, key_head, tile.first, tile.count);
  load_tile(shared.value, call.v, key_head, tile.first, tile.count);

  int base = tile.base;  // of the queries that the factors are for
  for (int t = tile.tiles_begin; t < tile.tiles_end; ++t) {
    const QueryTile queries = call.queries[t];
    if (!meets(queries, own)) continue;  // also for the decay's sake: it is bounded where tiles meet
    if (queries.base != base) {
      base = queries.base;
      __syncthreads();
      put_factors<width>(shared.factors, rule.decay, rule.pairs, base - tile.base);
    }
    for (int g = 0; g < group; ++g) {
      const int head = key_head * group + g;
      const HeadBias bias = rule.bias(head);
      float of_row[m] = {};
      for (int begin = 0; begin < queries.count; begin += part_rows) {
        const int first = queries.first + begin,
                  count = queries.count - begin < part_rows ? queries.count - begin : part_rows;
        __syncthreads();  // the part before has been read, and the factors written
        load_tile(shared.query, call.q, head, first, count, base != tile.base ? shared.factors : nullptr);
        load_tile(shared.doutput, call.doutput, head, first, count);
        shared.query_rows.put(rule, head, first, count);
        if (begin == 0) shared.key_rows.put(rule, head, tile.first, tile.count);
        if (threadIdx.x < part_rows) {
          const int row = static_cast<int>(threadIdx.x);
          const std::int64_t at = static_cast<std::int64_t>(first + row) * call.heads + head;
          shared.lse[row] = row < count ? call.lse[at] * log2_e : 0.0F;
          shared.delta[row] = row < count ? call.delta[at] : 0.0F;
        }
        __syncthreads();
        Pairs<m> pairs;
        multiply<width>(shared.key, shared.query, place, pairs.weight);
        multiply<width>(shared.value, shared.doutput, place, pairs.gradient);
        const bool masked = count < part_rows || !seen_whole(queries, tile.first, tile.count);
        LEXRING_UNROLL for (int j = 0; j < part_columns; ++j) {
          const int column = place.column + j * square;
          const float lse = shared.lse[column], delta = shared.delta[column];
          LEXRING_UNROLL for (int i = 0; i < m; ++i) {
            const int row = place.row + i * square;
            float score = rule.capped(pairs.weight[i][j] * rule.scale);
            const float scale = call.scale * rule.slope(score);
            if (rule.biased()) score += bias_of(bias, shared.query_rows, column, shared.key_rows, row);
            bool seen = !masked || sees(shared.query_rows.range[column], tile.first + row);
            if (rule.biased())
              seen = seen && rule.counts(score, shared.query_rows.position[column], shared.key_rows.position[row]);
            const Differential made(rule, score, lse, pairs.gradient[i][j], delta);
            pairs.weight[i][j] = seen ? made.weight : 0.0F;
            pairs.gradient[i][j] = seen ? made.gradient * scale : 0.0F;
            of_row[i] += seen ? made.gradient : 0.0F;
          }
        }
        put_weights(shared.weights, place, pairs.weight);
        __syncwarp();
        carry<width>(shared.weights, shared.doutput, place, dv);
        __syncwarp();
        put_weights(shared.weights, place, pairs.gradient);
        __syncwarp();
        carry<width>(shared.weights, shared.query, place, dk);
      }
      if (call.dkey_terms == nullptr) continue;
      LEXRING_UNROLL for (int i = 0; i < m; ++i) {
        const float sum = row_sum(of_row[i]);
        const int row = place.row + i * square;
        if (place.column == 0 && row < tile.count)
          call.dkey_terms[static_cast<std::int64_t>(tile.first + row) * call.heads + head] -= sum;
      }
    }
  }

  for_rows([&](int i, std::int64_t row) {
    const std::int64_t at = (row * call.kv_heads + key_head) * call.width,
                       out = row * call.dv_stride + key_head * call.width;
    for_channels<width>(place.column, call.width, [&](int c, int channel) {
      call.dk[at + channel] = dk[i][c];
      if (!call.key_last) call.dv_state[at + channel] = dv[i][c];
      else if (call.dv_float != nullptr) call.dv_float[out + channel] = dv[i][c];
      else call.dv[out + channel] = from_float<T>(dv[i][c]);
    });
  });
}

/// The state that stages share, or memory of this call's own.
Tensor gradient(const Gpu& gpu, const Tensor& state, CallStage stage, std::int64_t rows, std::int64_t width) {
  return stage.first && stage.last ? Tensor(gpu.runtime, {rows, width}, Dtype::f32) : state;
}

}  // namespace

void plain_attention_backward(const Gpu& gpu, const AttentionBackward& call) {
  const AttentionForm& form = call.form;
  const std::int64_t rows = rows_of_tiles(form.head_width), width = vector_width(form.head_width);
  const AttentionTables& tables = gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, rows, rows);
  const RotaryTable none, query_rotary = form.rotary ? call.queries->rotary : none,
                          key_rotary = form.rotary ? call.keys->rotary : none;
  const Tensor dq =
      gradient(gpu, call.dq_state, call.query_stage, call.queries->tokens.rows(), form.heads * form.head_width);
  const Tensor dk =
      gradient(gpu, call.dk_state, call.key_stage, call.keys->tokens.rows(), form.kv_heads * form.head_width);
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    const HeadRows q = turned_rows(gpu, call.q, form.heads, width, query_rotary, tables.query_distance, tables.decay);
    const HeadRows k = turned_rows(gpu, call.k, form.kv_heads, width, key_rotary, tables.key_distance, tables.decay);
    const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, none, {}, {});
    const HeadRows doutput =
        turned_rows(gpu, Columns(call.doutput, 0, form.heads * form.head_width), form.heads, width, none, {}, {});
    Backward<T> task{operand<T>(q),
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
                     static_cast<int>(form.kv_heads),
                     static_cast<int>(form.head_width),
                     static_cast<float>(form.scale),
                     call.query_stage.first,
                     call.key_stage.first,
                     call.key_stage.last,
                     dq.data<float>(),
                     dk.data<float>(),
                     nullptr,
                     nullptr,
                     nullptr,
                     0,
                     nullptr,
                     nullptr};
    if (call.row_terms.defined()) {
      task.dquery_terms = call.dquery_terms.data<float>(), task.dkey_terms = call.dkey_terms.data<float>();
    }
    if (!call.key_stage.first || !call.key_stage.last) task.dv_state = call.dv_state.data<float>();
    if (call.key_stage.last) {
      task.dv_stride = call.dv.stride();
      if (call.dv.dtype() == Dtype::f32) task.dv_float = call.dv.data<float>();
      else task.dv = call.dv.data<T>();
    }
    with_head_width(form.head_width, [&]<int padded>(HeadWidth<padded>) {
      launch(gpu.stream, dim3(static_cast<unsigned>(tables.query_tiles_count * form.heads)), plain_threads,
             sizeof(QueryShared<padded>), backward_queries<padded, T>, task);
      launch(gpu.stream, dim3(static_cast<unsigned>(tables.key_tiles_count * form.kv_heads)), plain_threads,
             sizeof(KeyShared<padded>), backward_keys<padded, T>, task);
    });
  });
  if (call.query_stage.last) turn_back(gpu, dq, form.heads, query_rotary, tables.query_distance, tables.decay, call.dq);
  if (call.key_stage.last) turn_back(gpu, dk, form.kv_heads, key_rotary, tables.key_distance, tables.decay, call.dk);
}

}  // namespace lexring::cuda
