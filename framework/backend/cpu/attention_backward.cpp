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

constexpr std::int64_t backward_segment = 16;  // tiles of keys at a time: memory does not grow with them

/// One sequence of queries and of keys (either may be missing), one key head, all query heads that read it. A segment
/// of keys, whose dk and dv are accumulated, meets tile after tile of queries; between segments dq waits in `dq_state`.
template <class T>
class BackwardTask {
  using F = Factor<T>;
  static constexpr bool widens = !std::is_same_v<T, F>;

 public:
  BackwardTask(const AttentionBackward& call, const Tensor& dq_state, const Side& queries, const Side& keys,
               const Ranges& ranges, std::int64_t query_sequence, std::int64_t key_sequence, std::int64_t kv_head,
               double* dby_distance)
      : call_(call),
        dq_state_(dq_state),
        queries_(queries),
        keys_(keys),
        ranges_(ranges),
        query_sequence_(query_sequence),
        kv_head_(kv_head),
        width_(call.form.head_width),
        stride_(padded_width(width_)),
        group_(call.form.heads / call.form.kv_heads),
        runtime_(call.q.matrix.runtime()),
        dby_distance_(dby_distance) {
    if (key_sequence >= 0)
      take_keys(keys.first_tile[static_cast<std::size_t>(key_sequence)],
                keys.first_tile[static_cast<std::size_t>(key_sequence) + 1]);
    const std::int64_t pair = query_tile * key_tile;
    query_ = floats(query_tile * stride_), based_ = floats(query_tile * stride_),
    dquery_ = floats(query_tile * stride_);
    part_ = floats(query_tile * stride_), staging_ = floats(key_tile * stride_);
    if constexpr (widens) widened_doutput_ = floats(query_tile * stride_);
    scores_ = floats(pair), dweights_ = floats(pair);
    left_ = take<Word<F>>(memory_, runtime_, query_tile * words<F>(width_));
    query_rows_ = take<Word<F>>(memory_, runtime_, packed_words<F>(query_tile, width_));
    doutput_rows_ = take<Word<F>>(memory_, runtime_, packed_words<F>(query_tile, width_));
    if constexpr (WordOf<F>::depth == 2) {
      weight_pairs_ = take<Word<F>>(memory_, runtime_, pair / 2),
      dscore_pairs_ = take<Word<F>>(memory_, runtime_, pair / 2);
      dscore_rows_ = reinterpret_cast<F*>(take<Word<F>>(memory_, runtime_, pair / 2));
    }
    factors_.resize(static_cast<std::size_t>(width_ / 2));
  }

  void run() {
    const std::int64_t end = last_tile_;
    do {
      last_tile_ = std::min(first_tile_ + backward_segment, end);
      last_segment_ = last_tile_ == end;
      if (first_tile_ < last_tile_) begin_keys();
      if (query_sequence_ >= 0) meet_queries();
      if (first_tile_ < last_tile_) end_keys();
      first_tile_ = last_tile_;
      first_segment_ = false;
    } while (!last_segment_);
  }

 private:
  float* floats(std::int64_t count) { return take<float>(memory_, runtime_, count); }

  /// Memory for a segment of them.
  void take_keys(std::int64_t first, std::int64_t last) {
    first_tile_ = first, last_tile_ = last;
    const std::int64_t slots = std::min(backward_segment, last - first);
    const auto space = [&](std::int64_t each) { return take<Word<F>>(memory_, runtime_, slots * each); };
    packed_ = {width_, space(PackedKeys<T>::transposed_words(width_)), space(PackedKeys<T>::row_words(width_)),
               space(PackedKeys<T>::transposed_words(width_)), nullptr};
    dkey_ = floats(slots * key_tile * stride_), dvalue_ = floats(slots * key_tile * stride_);
  }

  void begin_keys() {
    const TokenTile &first = keys_.tiles[static_cast<std::size_t>(first_tile_)],
                    &last = keys_.tiles[static_cast<std::size_t>(last_tile_ - 1)];
    first_key_ = first.first, key_count_ = last.first + last.count - first.first;
    packed_tiles_.assign(static_cast<std::size_t>(last_tile_ - first_tile_), false);
    load_state(call_.dk_state, call_.key_stage.first, first_key_, key_count_, call_.form.kv_heads, kv_head_, dkey_);
    load_state(call_.dv_state, call_.key_stage.first, first_key_, key_count_, call_.form.kv_heads, kv_head_, dvalue_);
  }

  void end_keys() {
    if (!call_.key_stage.last) {
      store_state(call_.dk_state, first_key_, key_count_, call_.form.kv_heads, kv_head_, dkey_);
      store_state(call_.dv_state, first_key_, key_count_, call_.form.kv_heads, kv_head_, dvalue_);
      return;
    }
    if (call_.dk.dtype() == Dtype::f32) {
      write_keys<float>();
    } else {
      write_keys<T>();
    }
  }

  template <class Out>
  void write_keys() {
    rotate_rows_back(dkey_, stride_, keys_.factors, first_key_, key_count_, width_, 1.0F,
                     call_.dk.template data<Out>() + first_key_ * call_.dk.stride() + kv_head_ * width_,
                     call_.dk.stride());
    rotate_rows_back(dvalue_, stride_, RowFactors{}, first_key_, key_count_, width_, 1.0F,
                     call_.dv.template data<Out>() + first_key_ * call_.dv.stride() + kv_head_ * width_,
                     call_.dv.stride());
  }

  void meet_queries() {
    const std::int64_t begin = queries_.first_tile[static_cast<std::size_t>(query_sequence_)],
                       end = queries_.first_tile[static_cast<std::size_t>(query_sequence_) + 1];
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t g = 0; g < group_; ++g) query_rows(t, kv_head_ * group_ + g);
    }
  }

  /// One tile of queries of one head against the keys of the segment that it sees.
  void query_rows(std::int64_t t, std::int64_t head) {
    const TokenTile& queries = queries_.tiles[static_cast<std::size_t>(t)];
    const bool opens = call_.query_stage.first && first_segment_, closes = call_.query_stage.last && last_segment_;
    const float scale = static_cast<float>(call_.form.scale) * log2_e;
    const auto take_up = [&] {
      load_state(dq_state_, opens, queries.first, queries.count, call_.form.heads, head, dquery_);
    };
    bool prepared = false;
    for (std::int64_t k = first_tile_; k < last_tile_; ++k) {
      const TokenTile& keys = keys_.tiles[static_cast<std::size_t>(k)];
      const TileMask mask = make_mask(ranges_.rows.data(), ranges_.tiles[static_cast<std::size_t>(t)], queries, keys);
      if (!mask.any()) continue;
      if (!prepared) take_up(), prepare(queries, head, scale);
      prepared = true;
      const std::int64_t slot = k - first_tile_;
      if (!packed_tiles_[static_cast<std::size_t>(slot)])
        packed_.pack(slot, keys, call_.k, call_.v, kv_head_, keys_.factors, staging_);
      packed_tiles_[static_cast<std::size_t>(slot)] = true;
      rebase(queries, queries_.base[static_cast<std::size_t>(t)], keys_.base[static_cast<std::size_t>(k)]);
      meet(queries, keys, mask, slot, head, own_base_ ? dquery_ : part_);
    }
    leave_base(queries);
    if (!prepared) {
      if (!opens && !closes) return;
      take_up();
    }
    if (!closes) {
      store_state(dq_state_, queries.first, queries.count, call_.form.heads, head, dquery_);
      return;
    }
    if (call_.dq.dtype() == Dtype::f32) {
      write_queries<float>(queries, head, scale);
    } else {
      write_queries<T>(queries, head, scale);
    }
  }

  template <class Out>
  void write_queries(const TokenTile& queries, std::int64_t head, float scale) {
    rotate_rows_back(dquery_, stride_, queries_.factors, queries.first, queries.count, width_, scale,
                     call_.dq.template data<Out>() + queries.first * call_.dq.stride() + head * width_,
                     call_.dq.stride());
  }

  void prepare(const TokenTile& queries, std::int64_t head, float scale) {
    rotate_rows(call_.q.template data<T>() + queries.first * call_.q.stride() + head * width_, call_.q.stride(),
                queries_.factors, queries.first, queries.count, width_, scale, query_, stride_);
    float* const rows = widens ? widened_doutput_ : staging_;
    rotate_rows(doutput(queries.first, head), call_.form.heads * width_, RowFactors{}, 0, queries.count, width_, 1.0F,
                rows, stride_);
    pack_rows<F>(rows, stride_, queries.count, width_, doutput_rows_);
    bias_ = TileBias(call_, head, queries, true);
  }

  /// Queries packed, and scaled where keys have another base, unless they are; `part_` gathers their gradient in it.
  void rebase(const TokenTile& queries, std::int64_t query_base, std::int64_t key_base) {
    if (key_base == key_base_) return;
    leave_base(queries);
    key_base_ = key_base, own_base_ = key_base == query_base;
    if (own_base_) return pack_queries(query_, queries.count);
    pair_factors(call_.form, static_cast<double>(query_base - key_base), factors_.data());
    scale_pairs(query_, stride_, queries.count, width_, factors_.data(), based_, stride_);
    pack_queries(based_, queries.count);
    std::fill(part_, part_ + queries.count * stride_, 0.0F);
  }
  void leave_base(const TokenTile& queries) {
    if (key_base_ != no_base && !own_base_)
      scale_pairs(part_, stride_, queries.count, width_, factors_.data(), dquery_, stride_, true);
    key_base_ = no_base;
  }
  void pack_queries(const float* rows, std::int64_t count) {
    pack_left<F>(rows, stride_, count, width_, left_);
    pack_rows<F>(rows, stride_, count, width_, query_rows_);
  }

  /// dq, of this tile of queries, is added to `dquery`.
  void meet(const TokenTile& queries, const TokenTile& keys, const TileMask& mask, std::int64_t slot, std::int64_t head,
            float* dquery) {
    constexpr int together = WordOf<F>::depth;
    const std::int64_t depth = words<F>(width_), doutput_step = widens ? stride_ : call_.form.heads * width_ / together;
    const auto* doutputs = reinterpret_cast<const Word<F>*>(widens ? static_cast<const void*>(widened_doutput_)
                                                                   : doutput(queries.first, head));
    for (const Strip& s : mask.strips()) {
      const std::int64_t count = s.last_row - s.first_row, at = s.first_row * key_tile;
      tile_product<F>(count, {left_ + s.first_row * depth, depth, 1}, packed_.keys_transposed(slot, keys.count), 0,
                      depth, s.first_column, s.last_column, scores_ + at, key_tile, false);
      if (call_.form.caps()) cap_scores(call_.form, s, scores_);
      tile_product<F>(count, {doutputs + s.first_row * doutput_step, doutput_step, 1},
                      packed_.values_transposed(slot, keys.count), 0, depth, s.first_column, s.last_column,
                      dweights_ + at, key_tile, false);
    }
    if (bias_.any()) bias_.take_keys(call_.keys->tokens, keys);
    const bool masked = !mask.all || keys.count % lanes != 0;
    const auto& form = call_.form;
    const bool plain = !form.caps() && !form.clamps() && form.normalizer == Normalizer::softmax;
    if (bias_.has_terms()) std::fill_n(key_gradients_, key_tile, 0.0F);
    for (std::int64_t r = 0; r < queries.count; r += together) {
      const auto [first, last] = mask.columns(r);
      if (first >= last) continue;
      if (plain) differentiate<true>(queries, keys, first, last, masked, head, r);
      else differentiate<false>(queries, keys, first, last, masked, head, r);
    }
    if (bias_.has_table()) bias_.finish_keys(table_sums(head));
    for (std::int64_t i = 0; bias_.has_terms() && i < keys.count; ++i)
      call_.dkey_terms.template data<float>()[(keys.first + i) * form.heads + head] -= key_gradients_[i];

    // dv += P^T dO, dk += dS^T q; then dq += dS k.
    const Right<F> doutput_rows{doutput_rows_, words<F>(queries.count), width_},
        query_rows{query_rows_, words<F>(queries.count), width_};
    for (const Strip& s : mask.strips()) {
      const std::int64_t first = s.first_row / together, last = words<F>(s.last_row),
                         at = first * key_tile + s.first_column;
      const std::int64_t seen = s.last_column - s.first_column,
                         key = (keys.first - first_key_ + s.first_column) * stride_;
      tile_product<F>(seen, {weights_transposed() + at, 1, key_tile}, doutput_rows, first, last, 0, width_,
                      dvalue_ + key, stride_, true);
      tile_product<F>(seen, {dscores_transposed() + at, 1, key_tile}, query_rows, first, last, 0, width_, dkey_ + key,
                      stride_, true);
      const std::int64_t first_word = s.first_column / together, step = key_tile / together;
      tile_product<F>(s.last_row - s.first_row, {dscores() + s.first_row * step + first_word, step, 1},
                      packed_.keys_rows(slot, keys.count), first_word, words<F>(s.last_column), 0, width_,
                      dquery + s.first_row * stride_, stride_, true);
    }
  }

  /// Rows r (and r + 1, in bf16): P = exp2(S - lse), dS = P (dP - delta), 0 where masked, laid out for the three
  /// products. `plain`: no cap, no clamp, no ReLU.
  template <bool plain>
  void differentiate(const TokenTile& queries, const TokenTile& keys, std::int64_t first, std::int64_t last,
                     bool masked, std::int64_t head, std::int64_t r) {
    constexpr int together = WordOf<F>::depth;
    float lse[2] = {}, delta[2] = {};
    const bool biased = bias_.any(), learns = bias_.has_table(), gated = bias_.has_terms();
    f32v of_query[2] = {};
    const int live = static_cast<int>(std::min<std::int64_t>(together, queries.count - r));
    const RowRange nothing = {0, 0, 0, 0};
    const auto range = [&](int j) {
      return j < live ? ranges_.rows[static_cast<std::size_t>(queries.first + r + j)] : nothing;
    };
    const RowMask mask[2] = {{range(0), keys.first, keys.count}, {range(1), keys.first, keys.count}};
    const auto position = [&](int j) {
      return call_.queries->tokens.position[static_cast<std::size_t>(queries.first + r + j)];
    };
    for (int j = 0; j < live; ++j) {
      const std::int64_t at = (queries.first + r + j) * call_.form.heads + head;
      lse[j] = call_.lse.template data<float>()[at] * log2_e;
      delta[j] = call_.delta.template data<float>()[at] * ln_2;
      if (biased) bias_.take_query(r + j, position(j), first, last, bias_row_[j]);
    }
    const bool select = masked || live < together;
    const bool caps = call_.form.caps(), relu = call_.form.normalizer == Normalizer::relu;
    const float inverse_cap = caps ? ln_2 / static_cast<float>(call_.form.softcap) : 0.0F;
    std::optional<RowClamp> clamp[2];
    for (int j = 0; !plain && call_.form.clamps() && j < live; ++j)
      clamp[j].emplace(call_.form, position(j), call_.keys->tokens, keys);
    for (std::int64_t i = first; i < last; i += lanes) {
      f32v p[2] = {}, ds[2] = {};
#pragma GCC unroll 2
      for (int j = 0; j < together; ++j) {
        f32v s = load(scores_ + (r + j) * key_tile + i);
        const f32v of_cap = s * inverse_cap;
        if (biased) s += bias_.of(bias_row_[j], i);
        const f32v dweight = load(dweights_ + (r + j) * key_tile + i) * ln_2;
        if (plain || !relu) {
          p[j] = exp2_below_127(s - lse[j]);
          ds[j] = p[j] * (dweight - delta[j]);
        } else {
          p[j] = ln_2 * maximum(f32v{}, s);
          ds[j] = s > 0.0F ? dweight : f32v{};
        }
        if (!plain && clamp[j])
          p[j] = clamp[j]->select(i, s, p[j], f32v{}), ds[j] = clamp[j]->select(i, s, ds[j], f32v{});
        if (select) p[j] = mask[j].select(i, p[j], f32v{}), ds[j] = mask[j].select(i, ds[j], f32v{});
        if (learns) store(bias_gradients_[j] + i, ds[j] * log2_e);
        if (gated) {
          of_query[j] += ds[j] * log2_e;
          store(key_gradients_ + i, load(key_gradients_ + i) + ds[j] * log2_e);
        }
        if (!plain && caps) {  // scores that are masked may be anything, and 0 times that is not 0
          const f32v slope = 1.0F - of_cap * of_cap;
          ds[j] *= select ? mask[j].select(i, slope, f32v{}) : slope;
        }
      }
      if constexpr (together == 1) {
        store(scores_ + r * key_tile + i, p[0]);
        store(dweights_ + r * key_tile + i, ds[0]);
      } else {
        const u16v2 dscores = to_bf16(ds[0], ds[1]), weight_pairs = interleave(to_bf16(p[0], p[1])),
                    dscore_pairs = interleave(dscores);
        std::memcpy(weight_pairs_ + r / 2 * key_tile + i, &weight_pairs, sizeof weight_pairs);
        std::memcpy(dscore_pairs_ + r / 2 * key_tile + i, &dscore_pairs, sizeof dscore_pairs);
        std::memcpy(dscore_rows_ + r * key_tile + i, &dscores, sizeof dscores / 2);
        std::memcpy(dscore_rows_ + (r + 1) * key_tile + i, reinterpret_cast<const char*>(&dscores) + sizeof dscores / 2,
                    sizeof dscores / 2);
      }
    }
    for (int j = 0; gated && j < live; ++j)
      call_.dquery_terms.template data<float>()[(queries.first + r + j) * call_.form.heads + head] += sum(of_query[j]);
    for (int j = 0; learns && j < live; ++j)
      bias_.add_gradients(r + j, position(j), bias_row_[j], bias_gradients_[j], first, last, table_sums(head));
  }

  /// Of the head's row of the table.
  double* table_sums(std::int64_t head) const { return dby_distance_ + head % group_ * call_.bias.distances(); }

  const T* doutput(std::int64_t row, std::int64_t head) const {
    return call_.doutput.template data<T>() + (row * call_.form.heads + head) * width_;
  }
  const Word<F>* weights_transposed() const {
    if constexpr (WordOf<F>::depth == 1) return scores_;
    else return weight_pairs_;
  }
  const Word<F>* dscores_transposed() const {
    if constexpr (WordOf<F>::depth == 1) return dweights_;
    else return dscore_pairs_;
  }
  const Word<F>* dscores() const {
    if constexpr (WordOf<F>::depth == 1) return dweights_;
    else return reinterpret_cast<const Word<F>*>(dscore_rows_);
  }

  void load_state(const Tensor& state, bool first, std::int64_t row, std::int64_t count, std::int64_t heads,
                  std::int64_t head, float* to) const {
    std::fill(to, to + count * stride_, 0.0F);
    if (first) return;
    for (std::int64_t n = 0; n < count; ++n)
      std::copy_n(state.data<float>() + ((row + n) * heads + head) * width_, width_, to + n * stride_);
  }
  void store_state(const Tensor& state, std::int64_t row, std::int64_t count, std::int64_t heads, std::int64_t head,
                   const float* from) const {
    for (std::int64_t n = 0; n < count; ++n)
      std::copy_n(from + n * stride_, width_, state.data<float>() + ((row + n) * heads + head) * width_);
  }

  const AttentionBackward& call_;
  const Tensor& dq_state_;
  const Side &queries_, &keys_;
  const Ranges& ranges_;
  std::int64_t query_sequence_, kv_head_;
  std::int64_t width_, stride_, group_;
  Runtime& runtime_;
  std::int64_t first_tile_ = 0, last_tile_ = 0, first_key_ = 0, key_count_ = 0;  // of the segment; none without keys
  bool first_segment_ = true, last_segment_ = true;
  std::int64_t key_base_ = no_base;
  bool own_base_ = true;  // the keys' base is that of the queries
  std::vector<Tensor> memory_;
  std::vector<bool> packed_tiles_;
  std::vector<float> factors_;
  PackedKeys<T> packed_{};
  TileBias bias_;
  TileBias::Row bias_row_[2];
  alignas(64) float bias_gradients_[2][key_tile + simd::lanes] = {}, key_gradients_[key_tile];
  double* dby_distance_;  ///< [query heads of the key head, distances], this task's; null without a table
  float *query_, *based_, *dquery_, *part_, *staging_, *scores_, *dweights_, *dkey_ = nullptr, *dvalue_ = nullptr;
  float* widened_doutput_ = nullptr;  ///< rows of one tile of queries, where the product cannot read the tensor itself
  Word<F>*left_, *query_rows_, *doutput_rows_, *weight_pairs_ = nullptr, *dscore_pairs_ = nullptr;
  F* dscore_rows_ = nullptr;
};

std::int64_t most_tiles(const Side& side) {
  std::int64_t most = 0;
  for (std::size_t s = 1; s < side.first_tile.size(); ++s)
    most = std::max(most, side.first_tile[s] - side.first_tile[s - 1]);
  return most;
}

}  // namespace

void attention_backward(const AttentionBackward& call) {
  Runtime& runtime = call.q.matrix.runtime();
  const Side queries = make_side(call.form, call.queries->tokens, call.queries->rotary, AttentionRole::query, runtime);
  const Side keys = make_side(call.form, call.keys->tokens, call.keys->rotary, AttentionRole::key, runtime);
  const Ranges ranges = make_ranges(call.queries->tokens, call.keys->tokens, call.queries->visible, queries);
  std::vector<std::pair<std::int64_t, std::int64_t>>
      pairs;  // of sequences; -1 where the other side has none of that id
  std::vector<bool> met(call.keys->tokens.sequences.size());
  for (std::size_t s = 0; s < call.queries->tokens.sequences.size(); ++s) {
    pairs.emplace_back(static_cast<std::int64_t>(s), ranges.key_sequence[s]);
    if (ranges.key_sequence[s] >= 0) met[static_cast<std::size_t>(ranges.key_sequence[s])] = true;
  }
  for (std::size_t s = 0; s < met.size(); ++s) {
    if (!met[s]) pairs.emplace_back(-1, static_cast<std::int64_t>(s));
  }
  Tensor dq_state = call.dq_state;
  if (!dq_state.defined() && most_tiles(keys) > backward_segment)
    dq_state = Tensor(runtime, call.doutput.shape(), Dtype::f32);
  const std::int64_t of_task = call.form.group() * call.bias.distances();
  std::vector<double> bias_sums(pairs.size() * static_cast<std::size_t>(call.form.kv_heads * of_task));
  with_type(call.q.dtype(), [&]<class T>(Type<T>) {
    parallel_tasks(
        static_cast<std::int64_t>(pairs.size()) * call.form.kv_heads,
        [&, purpose = MemoryPurpose::current()](std::int64_t task) {
          const MemoryPurpose same(purpose);
          const auto& [q, k] = pairs[static_cast<std::size_t>(task / call.form.kv_heads)];
          double* const sums = bias_sums.empty() ? nullptr : &bias_sums[static_cast<std::size_t>(task * of_task)];
          BackwardTask<T>(call, dq_state, queries, keys, ranges, q, k, task % call.form.kv_heads, sums).run();
        });
  });
  // Tasks have sums of their own, added here in their order: whichever thread is first, the bits are the same.
  const std::int64_t of_sequence = call.form.heads * call.bias.distances();
  for (std::size_t i = 0; i < bias_sums.size(); ++i)
    call.dby_distance.data<float>()[i % static_cast<std::size_t>(of_sequence)] += static_cast<float>(bias_sums[i]);
}

}  // namespace lexring::cpu
