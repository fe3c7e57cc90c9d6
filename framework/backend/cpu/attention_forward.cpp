#include <cmath>
#include <optional>

#include "framework/backend/cpu/attention_tile_bias.h"
#include "framework/backend/cpu/attention_workspace.h"
#include "framework/backend/cpu/kernels.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {
namespace {

using namespace simd;

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr std::int64_t forward_segment = 32;  // packed at a time: memory does not grow with the keys

/// The running state of one query head over one sequence: o [n, padded E], m (base 2) and l [n].
struct HeadState {
  float *output, *maximum, *sum;
};

/// One sequence of queries, one key head, all query heads that read it.
template <class T>
class ForwardTask {
  using F = Factor<T>;

 public:
  ForwardTask(const AttentionForward& call, const Side& queries, const Side& keys, const Ranges& ranges,
              std::int64_t sequence, std::int64_t kv_head)
      : call_(call),
        queries_(queries),
        keys_(keys),
        ranges_(ranges),
        sequence_(sequence),
        kv_head_(kv_head),
        rows_(call.queries->tokens.sequences[static_cast<std::size_t>(sequence)]),
        width_(call.form.head_width),
        stride_(padded_width(width_)),
        group_(call.form.heads / call.form.kv_heads),
        relu_(call.form.normalizer == Normalizer::relu) {
    Runtime& runtime = call.q.matrix.runtime();
    for (std::int64_t g = 0; g < group_; ++g) {
      states_.push_back({take<float>(memory_, runtime, rows_.count * stride_),
                         take<float>(memory_, runtime, rows_.count), take<float>(memory_, runtime, rows_.count)});
    }
    staging_ = take<float>(memory_, runtime, key_tile * stride_);
    query_ = take<float>(memory_, runtime, query_tile * stride_);
    based_ = take<float>(memory_, runtime, query_tile * stride_);
    left_ = take<Word<F>>(memory_, runtime, query_tile * words<F>(width_));
    scores_ = take<float>(memory_, runtime, query_tile * key_tile);
    weights_ = reinterpret_cast<F*>(take<float>(memory_, runtime, query_tile * key_tile));
    factors_.resize(static_cast<std::size_t>(width_ / 2));
  }

  void run() {
    for (std::int64_t g = 0; g < group_; ++g) load_state(g);
    const std::int64_t key_sequence = ranges_.key_sequence[static_cast<std::size_t>(sequence_)];
    if (key_sequence >= 0) {
      const std::int64_t begin = keys_.first_tile[static_cast<std::size_t>(key_sequence)],
                         end = keys_.first_tile[static_cast<std::size_t>(key_sequence) + 1];
      const std::int64_t slots = std::min(forward_segment, end - begin);
      Runtime& runtime = call_.q.matrix.runtime();
      packed_ = {width_, take<Word<F>>(memory_, runtime, slots * PackedKeys<T>::transposed_words(width_)), nullptr,
                 nullptr, take<Word<F>>(memory_, runtime, slots * PackedKeys<T>::row_words(width_))};
      for (std::int64_t first = begin; first < end; first += forward_segment)
        segment(first, std::min(first + forward_segment, end));
    }
    for (std::int64_t g = 0; g < group_; ++g) store_state(g);
  }

 private:
  void segment(std::int64_t first, std::int64_t last) {
    std::vector<bool> packed(static_cast<std::size_t>(last - first));
    const std::int64_t begin = queries_.first_tile[static_cast<std::size_t>(sequence_)],
                       end = queries_.first_tile[static_cast<std::size_t>(sequence_) + 1];
    for (std::int64_t t = begin; t < end; ++t) {
      const TokenTile& queries = queries_.tiles[static_cast<std::size_t>(t)];
      masks_.clear();
      bool any = false;
      for (std::int64_t k = first; k < last; ++k) {
        masks_.push_back(make_mask(ranges_.rows.data(), ranges_.tiles[static_cast<std::size_t>(t)], queries,
                                   keys_.tiles[static_cast<std::size_t>(k)]));
        if (!masks_.back().any()) continue;
        any = true;
        if (!packed[static_cast<std::size_t>(k - first)]) {  // tiles that nobody sees are never touched
          packed_.pack(k - first, keys_.tiles[static_cast<std::size_t>(k)], call_.k, call_.v, kv_head_, keys_.factors,
                       staging_);
          packed[static_cast<std::size_t>(k - first)] = true;
        }
      }
      if (!any) continue;
      for (std::int64_t g = 0; g < group_; ++g) {
        const std::int64_t head = kv_head_ * group_ + g;
        rotate_rows(call_.q.data<T>() + queries.first * call_.q.stride() + head * width_, call_.q.stride(),
                    queries_.factors, queries.first, queries.count, width_,
                    static_cast<float>(call_.form.scale) * log2_e, query_, stride_);
        bias_ = TileBias(call_, head, queries, false);
        key_base_ = no_base;
        for (std::int64_t k = first; k < last; ++k) {
          const TileMask& mask = masks_[static_cast<std::size_t>(k - first)];
          if (!mask.any()) continue;
          rebase(queries, queries_.base[static_cast<std::size_t>(t)], keys_.base[static_cast<std::size_t>(k)]);
          meet(states_[static_cast<std::size_t>(g)], queries, keys_.tiles[static_cast<std::size_t>(k)], mask,
               k - first);
        }
      }
    }
  }

  /// Queries packed, and scaled where keys have another base, unless they are.
  void rebase(const TokenTile& queries, std::int64_t query_base, std::int64_t key_base) {
    if (key_base == key_base_) return;
    key_base_ = key_base;
    if (key_base == query_base) return pack_left<F>(query_, stride_, queries.count, width_, left_);
    pair_factors(call_.form, static_cast<double>(query_base - key_base), factors_.data());
    scale_pairs(query_, stride_, queries.count, width_, factors_.data(), based_, stride_);
    pack_left<F>(based_, stride_, queries.count, width_, left_);
  }

  /// One tile of queries against one of keys.
  void meet(const HeadState& state, const TokenTile& queries, const TokenTile& keys, const TileMask& mask,
            std::int64_t slot) {
    constexpr int depth = WordOf<F>::depth;
    for (const Strip& s : mask.strips()) {
      tile_product<F>(s.last_row - s.first_row, {left_ + s.first_row * words<F>(width_), words<F>(width_), 1},
                      packed_.keys_transposed(slot, keys.count), 0, words<F>(width_), s.first_column, s.last_column,
                      scores_ + s.first_row * key_tile, key_tile, false);
      if (call_.form.caps()) cap_scores(call_.form, s, scores_);
    }
    if (bias_.any()) bias_.take_keys(call_.keys->tokens, keys);
    const bool masked = !mask.all || keys.count % lanes != 0;
    for (std::int64_t r = 0; r < queries.count; ++r) {
      const auto [first, last] = mask.columns(r);
      if (first < last) weigh_row(state, queries.first + r, r, keys, first, last, masked);
    }
    for (const Strip& s : mask.strips()) {
      const Word<F>* weights = reinterpret_cast<const Word<F>*>(weights_ + s.first_row * key_tile + s.first_column);
      tile_product<F>(s.last_row - s.first_row, {weights, key_tile / depth, 1}, packed_.values_rows(slot, keys.count),
                      s.first_column / depth, words<F>(s.last_column), 0, width_,
                      state.output + (queries.first - rows_.first + s.first_row) * stride_, stride_, true);
    }
  }

  /// Columns [first, last) of a row of scores become weights: exp2(score - maximum), or by ReLU; 0 where the row does
  /// not see.
  void weigh_row(const HeadState& state, std::int64_t row, std::int64_t r, const TokenTile& keys, std::int64_t first,
                 std::int64_t last, bool masked) {
    const RowMask mask(ranges_.rows[static_cast<std::size_t>(row)], keys.first, keys.count);
    float* scores = scores_ + r * key_tile;
    F* weights = weights_ + r * key_tile;
    const bool biased = bias_.any();
    const std::int64_t position = call_.queries->tokens.position[static_cast<std::size_t>(row)];
    if (biased) bias_.take_query(r, position, first, last, bias_row_);
    std::optional<RowClamp> clamp;
    if (call_.form.clamps()) clamp.emplace(call_.form, position, call_.keys->tokens, keys);
    f32v top = broadcast(minus_infinity);
    for (std::int64_t i = first; i < last; i += lanes) {
      f32v s = load(scores + i);
      if (biased) s += bias_.of(bias_row_, i);
      if (clamp) s = clamp->select(i, s, s, broadcast(minus_infinity));
      if (masked) s = mask.select(i, s, broadcast(minus_infinity));
      if (masked || biased || clamp) store(scores + i, s);
      top = maximum(top, s);
    }
    if (relu_) {
      for (std::int64_t i = first; i < last; i += lanes)
        store(weights + i, ln_2 * maximum(f32v{}, load(scores + i)));  // in this order NaN stays NaN
      return;
    }
    const std::int64_t n = row - rows_.first;
    const float before = state.maximum[n], now = std::max(before, largest(top));
    if (now == minus_infinity) {
      for (std::int64_t i = first; i < last; i += lanes) store(weights + i, f32v{});
      return;
    }
    f32v total = {};
    for (std::int64_t i = first; i < last; i += lanes) {
      const f32v p = exp2_below_127(load(scores + i) - now);
      total += p;
      store(weights + i, p);
    }
    if (now != before && before != minus_infinity) {
      const float shrink = std::exp2(before - now);
      state.sum[n] *= shrink;
      float* output = state.output + n * stride_;
      for (std::int64_t i = 0; i < stride_; i += lanes) store(output + i, load(output + i) * shrink);
    }
    state.maximum[n] = now;
    state.sum[n] += sum(total);
  }

  void load_state(std::int64_t g) {
    const HeadState& state = states_[static_cast<std::size_t>(g)];
    const std::int64_t head = kv_head_ * group_ + g, heads = call_.form.heads;
    std::fill(state.output, state.output + rows_.count * stride_, 0.0F);
    std::fill(state.maximum, state.maximum + rows_.count, minus_infinity);
    std::fill(state.sum, state.sum + rows_.count, 0.0F);
    if (call_.stage.first) return;
    for (std::int64_t n = 0; n < rows_.count; ++n) {
      const std::int64_t at = (rows_.first + n) * heads + head;
      std::copy_n(call_.state.output.data<float>() + at * width_, width_, state.output + n * stride_);
      if (relu_) continue;
      state.maximum[n] = call_.state.maximum.data<float>()[at] * log2_e;
      state.sum[n] = call_.state.sum.data<float>()[at];
    }
  }

  void store_state(std::int64_t g) {
    const HeadState& state = states_[static_cast<std::size_t>(g)];
    const std::int64_t head = kv_head_ * group_ + g, heads = call_.form.heads;
    for (std::int64_t n = 0; n < rows_.count; ++n) {
      const std::int64_t at = (rows_.first + n) * heads + head;
      const float* output = state.output + n * stride_;
      if (!call_.stage.last) {
        std::copy_n(output, width_, call_.state.output.data<float>() + at * width_);
        if (relu_) continue;
        call_.state.maximum.data<float>()[at] = state.maximum[n] * ln_2;
        call_.state.sum.data<float>()[at] = state.sum[n];
        continue;
      }
      const bool seen = state.sum[n] > 0;
      const float inverse = relu_ ? 1.0F : seen ? 1.0F / state.sum[n] : 0.0F;
      T* out = call_.output.data<T>() + at * width_;
      for_lanes(width_, [&](std::int64_t i, std::int64_t m) { store(out + i, load(output + i, m) * inverse, m); });
      call_.lse.data<float>()[at] = relu_  ? 0.0F
                                    : seen ? state.maximum[n] * ln_2 + std::log(state.sum[n])
                                           : minus_infinity;
    }
  }

  const AttentionForward& call_;
  const Side &queries_, &keys_;
  const Ranges& ranges_;
  std::int64_t sequence_, kv_head_;
  TokenTable::Sequence rows_;
  std::int64_t width_, stride_, group_, key_base_ = no_base;
  bool relu_;
  std::vector<Tensor> memory_;
  std::vector<HeadState> states_;
  std::vector<TileMask> masks_;
  std::vector<float> factors_;
  PackedKeys<T> packed_{};
  TileBias bias_;
  TileBias::Row bias_row_;
  float *staging_, *query_, *based_, *scores_;
  Word<F>* left_;
  F* weights_;
};

}  // namespace

void attention(const AttentionForward& call) {
  Runtime& runtime = call.q.matrix.runtime();
  const Side queries = make_side(call.form, call.queries->tokens, call.queries->rotary, AttentionRole::query, runtime);
  const Side keys = make_side(call.form, call.keys->tokens, call.keys->rotary, AttentionRole::key, runtime);
  const Ranges ranges = make_ranges(call.queries->tokens, call.keys->tokens, call.queries->visible, queries);
  const auto sequences = static_cast<std::int64_t>(call.queries->tokens.sequences.size());
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    parallel_tasks(sequences * call.form.kv_heads, [&, purpose = MemoryPurpose::current()](std::int64_t task) {
      const MemoryPurpose same(purpose);
      ForwardTask<T>(call, queries, keys, ranges, task / call.form.kv_heads, task % call.form.kv_heads).run();
    });
  });
}

void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) {
  const std::int64_t rows = delta.elements(), width = rows == 0 ? 0 : output.elements() / rows;
  with_type(output.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, rows, 256, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        f32v total = {};
        for_lanes(width, [&](std::int64_t i, std::int64_t m) {
          total += load(output.data<T>() + n * width + i, m) * load(doutput.data<T>() + n * width + i, m);
        });
        delta.data<float>()[n] = sum(total);
      }
    });
  });
}

}  // namespace lexring::cpu
