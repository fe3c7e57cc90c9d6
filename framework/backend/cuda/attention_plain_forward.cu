#include "framework/backend/cuda/attention_plain_scores.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int tile_rows = 64;  ///< of queries, and of keys
constexpr int per_thread = tile_rows / square;

template <class T>
struct Forward {
  Operand<T> q, k, v;
  ScoreRule rule;
  const QueryTile* queries;
  const KeyTile* keys;
  int query_tiles, heads, group, width;
  bool first, last;
  float *state_output, *state_maximum, *state_sum;
  T* output;
  float* lse;
};

template <int width>
struct Shared {
  RowTile<tile_rows, width> query, key;  ///< values follow the keys in their place
  WeightTile<tile_rows, tile_rows> weights;
  float factors[width / 2];
  QueryRows<tile_rows> query_rows;
  KeyRows<tile_rows> key_rows;
};

/// The running state of a thread's rows.
template <int width>
struct State {
  float output[per_thread][width / square] = {};
  float maximum[per_thread], sum[per_thread];  ///< in base 2; of the keys in this thread's columns

  template <class T>
  __device__ void begin(const Forward<T>& call, const QueryTile& tile, int head, Place place) {
    LEXRING_UNROLL for (int i = 0; i < per_thread; ++i) {
      maximum[i] = minus_infinity, sum[i] = 0.0F;
      const int row = place.row + i * square;
      if (call.first || row >= tile.count) continue;
      const std::int64_t at = static_cast<std::int64_t>(tile.first + row) * call.heads + head;
      if (!call.rule.relu) {
        maximum[i] = call.state_maximum[at] * log2_e;
        if (place.column == 0) sum[i] = call.state_sum[at];
      }
      for_channels<width>(place.column, call.width,
                          [&](int c, int channel) { output[i][c] = call.state_output[at * call.width + channel]; });
    }
  }

  /// Scores of row i become weights.
  __device__ void meet(int i, float (&scores)[per_thread]) {
    float top = scores[0];
    LEXRING_UNROLL for (int j = 1; j < per_thread; ++j) top = fmaxf(top, scores[j]);
    const float now = fmaxf(maximum[i], row_max(top));
    const float from = now == minus_infinity ? 0.0F : now;  // a row that has seen nothing: all weights 0, not NaN
    const float shrink = exp2_fast(maximum[i] - from);
    maximum[i] = now;
    sum[i] *= shrink;
    LEXRING_UNROLL for (int j = 0; j < per_thread; ++j) {
      scores[j] = exp2_fast(scores[j] - from);
      sum[i] += scores[j];
    }
    LEXRING_UNROLL for (int c = 0; c < width / square; ++c) output[i][c] *= shrink;
  }

  template <class T>
  __device__ void end(const Forward<T>& call, const QueryTile& tile, int head, Place place) {
    LEXRING_UNROLL for (int i = 0; i < per_thread; ++i) {
      const float total = row_sum(sum[i]);
      const int row = place.row + i * square;
      if (row >= tile.count) continue;
      const std::int64_t at = static_cast<std::int64_t>(tile.first + row) * call.heads + head;
      if (!call.last) {
        if (place.column == 0 && !call.rule.relu)
          call.state_maximum[at] = maximum[i] * ln_2, call.state_sum[at] = total;
        for_channels<width>(place.column, call.width,
                            [&](int c, int channel) { call.state_output[at * call.width + channel] = output[i][c]; });
        continue;
      }
      const bool seen = total > 0.0F, relu = call.rule.relu;
      const float inverse = relu ? 1.0F : seen ? 1.0F / total : 0.0F;
      if (place.column == 0) call.lse[at] = relu ? 0.0F : seen ? maximum[i] * ln_2 + logf(total) : minus_infinity;
      for_channels<width>(place.column, call.width, [&](int c, int channel) {
        call.output[at * call.width + channel] = from_float<T>(output[i][c] * inverse);
      });
    }
  }
};

/// A tile of queries of one head against the keys it sees. Bytes: q once, k and v once per tile of queries; all else is
/// small.
template <int width, class T>
__global__ void __launch_bounds__(plain_threads, width <= 128 ? 2 : 1) forward(const Forward<T> call) {
  auto& shared = shared_memory<Shared<width>>();
  const ScoreRule& rule = call.rule;
  const Place place;
  // Heads side by side, late tiles first: under a causal mask they take longest.
  const int head = static_cast<int>(blockIdx.x) % call.heads, key_head = head / call.group;
  const QueryTile tile = call.queries[call.query_tiles - 1 - static_cast<int>(blockIdx.x) / call.heads];
  const HeadBias bias = rule.bias(head);
  State<width> state;
  state.begin(call, tile, head, place);
  shared.query_rows.put(rule, head, tile.first, tile.count);
  load_tile(shared.query, call.q, head, tile.first, tile.count);

  int base = tile.base;  // of the keys that the queries in shared memory are scaled to meet
  for (int t = 0; t < tiles_met(tile); ++t) {
    const KeyTile keys = call.keys[tile_met(tile, t)];
    __syncthreads();  // the tile before has been read
    if (keys.base != base) {
      base = keys.base;
      put_factors<width>(shared.factors, rule.decay, rule.pairs, tile.base - base);
      __syncthreads();
      load_tile(shared.query, call.q, head, tile.first, tile.count, shared.factors);
    }
    load_tile(shared.key, call.k, key_head, keys.first, keys.count);
    shared.key_rows.put(rule, head, keys.first, keys.count);
    __syncthreads();
    float scores[per_thread][per_thread];
    multiply<width>(shared.query, shared.key, place, scores);
    const bool masked = keys.count < tile_rows || !seen_whole(tile, keys.first, keys.count);
    LEXRING_UNROLL for (int i = 0; i < per_thread; ++i) {
      const int row = place.row + i * square;
      LEXRING_UNROLL for (int j = 0; j < per_thread; ++j) {
        const int column = place.column + j * square;
        scores[i][j] = rule.capped(scores[i][j] * rule.scale);
        if (rule.biased()) scores[i][j] += bias_of(bias, shared.query_rows, row, shared.key_rows, column);
        if (rule.biased() &&
            !rule.counts(scores[i][j], shared.query_rows.position[row], shared.key_rows.position[column]))
          scores[i][j] = minus_infinity;
        if (masked && !(column < keys.count && sees(shared.query_rows.range[row], keys.first + column)))
          scores[i][j] = minus_infinity;
      }
      if (!rule.relu) {
        state.meet(i, scores[i]);
      } else {
        LEXRING_UNROLL for (int j = 0; j < per_thread; ++j) scores[i][j] = rectified(scores[i][j]);
      }
    }
    put_weights(shared.weights, place, scores);
    __syncthreads();
    load_tile(shared.key, call.v, key_head, keys.first, keys.count);
    __syncthreads();
    carry<width>(shared.weights, shared.key, place, state.output);
  }
  state.end(call, tile, head, place);
}

}  // namespace

void plain_attention(const Gpu& gpu, const AttentionForward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, tile_rows, tile_rows);
  const std::int64_t width = vector_width(form.head_width);
  const RotaryTable none;
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    const HeadRows q = turned_rows(gpu, call.q, form.heads, width, form.rotary ? call.queries->rotary : none,
                                   tables.query_distance, tables.decay);
    const HeadRows k = turned_rows(gpu, call.k, form.kv_heads, width, form.rotary ? call.keys->rotary : none,
                                   tables.key_distance, tables.decay);
    const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, none, {}, {});
    Forward<T> task{operand<T>(q),
                    operand<T>(k),
                    operand<T>(v),
                    score_rule(form, call.bias, call.row_terms, tables),
                    tables.queries(),
                    tables.keys(),
                    tables.query_tiles_count,
                    static_cast<int>(form.heads),
                    static_cast<int>(form.heads / form.kv_heads),
                    static_cast<int>(form.head_width),
                    call.stage.first,
                    call.stage.last,
                    nullptr,
                    nullptr,
                    nullptr,
                    nullptr,
                    nullptr};
    if (!call.stage.first || !call.stage.last) {
      task.state_output = call.state.output.data<float>();
      task.state_maximum = call.state.maximum.data<float>(), task.state_sum = call.state.sum.data<float>();
    }
    if (call.stage.last) task.output = call.output.data<T>(), task.lse = call.lse.data<float>();
    const dim3 blocks(static_cast<unsigned>(tables.query_tiles_count * form.heads));
    with_head_width(form.head_width, [&]<int padded>(HeadWidth<padded>) {
      launch(gpu.stream, blocks, plain_threads, sizeof(Shared<padded>), forward<padded, T>, task);
    });
  });
}

}  // namespace lexring::cuda
