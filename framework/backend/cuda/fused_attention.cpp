#include "framework/backend/cuda/fused_attention.h"

#include <algorithm>
#include <limits>

#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/fused_rows.h"

namespace lexring::cuda {
namespace {

constexpr std::size_t kept_plans = 64;  // ring attention meets one block of keys after the other, forward and back

/// Softmax of scaled products of turned and decaying rows, and nothing else that a form may ask for.
bool is_plain(const AttentionForm& form) {
  const AttentionForm plain{.heads = form.heads,
                            .kv_heads = form.kv_heads,
                            .head_width = form.head_width,
                            .scale = form.scale,
                            .rotary = form.rotary,
                            .log_decay = form.log_decay};
  return form == plain && form.scale > 0 && form.head_width % 8 == 0 && form.head_width <= 128;
}

template <class Call>
bool fits(const Call& call) {
  return is_plain(call.form) && call.bias.slopes.empty() && !call.bias.by_distance.defined() &&
         !call.row_terms.defined() && call.q.dtype() == Dtype::bf16 && call.q.rows() > 0 && call.k.rows() > 0;
}

/// Distances of rows from `from`, and of their own bases, forwards for queries and backwards for keys; 0 where a row is
/// on the other side.
struct Distances {
  std::vector<float> own, back;

  Distances(const AttentionForm& form, const TokenTable& tokens, AttentionRole role, std::int64_t from) {
    const std::int64_t span = decay_span(form);
    const auto start = static_cast<double>(from);
    const auto distance = [&](double at) {
      return static_cast<float>(role == AttentionRole::query ? at - start : start - at);
    };
    for (std::int64_t n = 0; n < tokens.rows(); ++n) {
      const double at = tokens.coordinate_of(static_cast<std::size_t>(n));
      const bool met = role == AttentionRole::query ? at >= start : at < start;
      own.push_back(met ? distance(at) : 0);
      back.push_back(met ? distance(static_cast<double>(span_of(tokens, n, span) * span + span / 2)) : 0);
    }
  }
};

Tensor upload(const Gpu& gpu, const std::vector<float>& values) {
  return Tensor::from(gpu.runtime, {static_cast<std::int64_t>(values.size())}, values);
}

FusedStrides strides_of(const HeadRows& rows, std::int64_t batch, std::int64_t count, std::int64_t step) {
  return {(batch > 1 ? step : count) * rows.row_stride, rows.head_stride, rows.row_stride};
}

RectangleRows queries_of(const FusedCall& c) { return {c.batch, c.query_first, c.queries, c.query_step}; }
RectangleRows keys_of(const FusedCall& c) { return {c.batch, c.key_first, c.keys, c.key_step}; }

/// Rows of one side that a call spans.
std::int64_t extent(const RectangleRows& rows) { return (rows.batch - 1) * rows.step + rows.count; }

/// Rows [first, first + count), turned, with decay over `distance`.
HeadRows turned_part(const Gpu& gpu, const Columns& x, std::int64_t heads, const RotaryTable& rotary,
                     const Tensor& distance, const Tensor& decay, std::int64_t first, std::int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.slice(first, count) : t; };
  return turned_rows(gpu, {part(x.matrix), x.first, x.width}, heads, x.width / heads,
                     {part(rotary.cosine), part(rotary.sine)}, part(distance), decay);
}

Tensor accumulator(const Gpu& gpu, const Tensor& state, bool first, std::int64_t rows, std::int64_t width) {
  const Tensor sum = state.defined() ? state : Tensor(gpu.runtime, {rows, width}, Dtype::f32);
  if (first) fill(gpu, sum, 0.0);
  return sum;
}

}  // namespace

/// Queries, keys and values of a call, as its rectangles want them. Rows in their own base are made once; those counted
/// from another one when their rectangle's turn comes, as there may be many.
template <class Call>
class FusedAttention::Inputs {
 public:
  Inputs(const Gpu& gpu, const Call& call, const Plan& plan) : gpu_(gpu), call_(call), plan_(plan) {
    if (call.form.decays()) {
      const AttentionTables& tables =
          gpu.attention_tables.of(gpu, call.form, call.bias, call.queries, call.keys, 128, 64);
      query_distance_ = tables.query_distance, key_distance_ = tables.key_distance, decay_ = tables.decay;
    }
    v_ = turned_rows(gpu, call.v, call.form.kv_heads, call.form.head_width, {}, {}, {});
    if (call.form.rotary) {  // when they are known to be needed
      q_ = layout(call.q.rows()), k_ = layout(call.k.rows());
    } else {
      make_own();
    }
  }

  const Tensor& decay() const { return decay_; }
  const Tensor& query_distance() const { return query_distance_; }
  const Tensor& key_distance() const { return key_distance_; }
  const Base* base_of(const FusedCall& c) const {
    if (!c.base) return nullptr;
    return &*std::find_if(plan_.bases.begin(), plan_.bases.end(), [&](const Base& b) { return b.position == *c.base; });
  }

  FusedShape shape(const FusedCall& c) const {
    const AttentionForm& form = call_.form;
    const std::int64_t width = form.query_width();
    const RectangleRows queries = queries_of(c), keys = keys_of(c);
    const HeadRows q = c.base ? layout(extent(queries)) : q_, k = c.base ? layout(extent(keys)) : k_;
    return {.batch = c.batch,
            .heads = form.heads,
            .kv_heads = form.kv_heads,
            .queries = c.queries,
            .keys = c.keys,
            .width = form.head_width,
            .mask = c.mask,
            .window = c.window,
            .scale = form.scale,
            .q = strides_of(q, c.batch, c.queries, c.query_step),
            .k = strides_of(k, c.batch, c.keys, c.key_step),
            .v = strides_of(v_, c.batch, c.keys, c.key_step),
            .output = {c.queries * width, form.head_width, width},
            .doutput = {}};
  }

  /// The same for backward, which reads outputs and their gradients in place.
  FusedShape backward_shape(const FusedCall& c) const {
    FusedShape s = shape(c);
    s.output.batch = (c.batch > 1 ? c.query_step : c.queries) * s.output.row;
    s.doutput = s.output;
    return s;
  }

  struct Pointers {
    const bfloat16 *q, *k, *v;
  };
  /// Valid until the next call.
  Pointers make(const FusedCall& c) {
    if (const Base* base = base_of(c)) {
      based_q_ = turned_part(gpu_, call_.q, call_.form.heads, call_.queries->rotary, base->query_distance, decay_,
                             c.query_first, extent(queries_of(c)));
      based_k_ = turned_part(gpu_, call_.k, call_.form.kv_heads, call_.keys->rotary, base->key_distance, decay_,
                             c.key_first, extent(keys_of(c)));
      return {at(based_q_, 0), at(based_k_, 0), at(v_, c.key_first)};
    }
    if (!q_.storage.defined()) make_own();
    return {at(q_, c.query_first), at(k_, c.key_first), at(v_, c.key_first)};
  }

 private:
  static const bfloat16* at(const HeadRows& rows, std::int64_t row) {
    return rows.data<bfloat16>() + row * rows.row_stride;
  }
  HeadRows layout(std::int64_t rows) const {
    const std::int64_t width = call_.form.head_width;
    return {{}, 0, width, rows * width, width};
  }
  void make_own() {
    q_ =
        turned_part(gpu_, call_.q, call_.form.heads, call_.queries->rotary, query_distance_, decay_, 0, call_.q.rows());
    k_ = turned_part(gpu_, call_.k, call_.form.kv_heads, call_.keys->rotary, key_distance_, decay_, 0, call_.k.rows());
  }

  const Gpu& gpu_;
  const Call& call_;
  const Plan& plan_;
  Tensor query_distance_, key_distance_, decay_;
  HeadRows q_, k_, v_, based_q_, based_k_;
};

const FusedAttention::Plan& FusedAttention::plan_of(const Gpu& gpu, const AttentionForm& form,
                                                    const SharedRows& queries, const SharedRows& keys) {
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const Plan& plan) {
    return plan.queries.lock() == queries && plan.keys.lock() == keys && plan.log_decay == form.log_decay;
  });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
    return plans_.front();
  }
  plans_.remove_if([](const Plan& plan) { return plan.queries.expired() || plan.keys.expired(); });
  if (plans_.size() >= kept_plans) plans_.pop_back();
  const MemoryPurpose purpose("attention tables");
  auto calls = plan_fused(form, queries->tokens, keys->tokens, queries->visible);
  Plan plan{queries, keys, form.log_decay, calls.has_value(), {}, {}};
  if (calls) plan.calls = std::move(*calls);
  for (const FusedCall& call : plan.calls) {
    if (!call.base) continue;
    const auto same = [&](const Base& base) { return base.position == *call.base; };
    if (std::any_of(plan.bases.begin(), plan.bases.end(), same)) continue;
    const Distances query(form, queries->tokens, AttentionRole::query, *call.base),
        key(form, keys->tokens, AttentionRole::key, *call.base);
    plan.bases.push_back(
        {*call.base, upload(gpu, query.own), upload(gpu, key.own), upload(gpu, query.back), upload(gpu, key.back)});
  }
  plans_.push_front(std::move(plan));
  return plans_.front();
}

bool FusedAttention::forward(const Gpu& gpu, const AttentionForward& call) {
  if (!fits(call)) return false;
  const Plan& plan = plan_of(gpu, call.form, call.queries, call.keys);
  if (!plan.possible) return false;
  Inputs<AttentionForward> inputs(gpu, call, plan);
  for (const FusedCall& c : plan.calls)
    if (!kernel_->has_forward(inputs.shape(c))) return false;

  const std::int64_t rows = call.q.rows(), heads = call.form.heads, width = call.form.query_width();
  const auto run = [&](const FusedCall& c, const Tensor& output) {
    const Tensor lse(gpu.runtime, {c.batch, heads, c.queries}, Dtype::f32);
    const auto [q, k, v] = inputs.make(c);
    kernel_->forward(gpu, inputs.shape(c), {q, k, v, output.data<bfloat16>(), lse.data<float>()});
    return lse;
  };
  const bool alone = call.stage.first && call.stage.last && plan.calls.size() == 1 &&
                     plan.calls.front().batch * plan.calls.front().queries == rows;
  if (alone) {  // entries are adjacent: they cover all rows
    put_lse(gpu, queries_of(plan.calls.front()), run(plan.calls.front(), call.output), call.lse);
    return true;
  }
  AttentionState state = call.state;
  if (!state.output.defined())
    state = {Tensor(gpu.runtime, {rows, width}, Dtype::f32), Tensor(gpu.runtime, {rows, heads}, Dtype::f32),
             Tensor(gpu.runtime, {rows, heads}, Dtype::f32)};
  if (call.stage.first) {
    fill(gpu, state.output, 0.0);
    fill(gpu, state.maximum, -std::numeric_limits<double>::infinity());
    fill(gpu, state.sum, 0.0);
  }
  for (const FusedCall& c : plan.calls) {
    const Tensor output(gpu.runtime, {c.batch * c.queries, width}, Dtype::bf16);
    merge_rectangle(gpu, queries_of(c), output, run(c, output), state);
  }
  if (call.stage.last) finish_state(gpu, state, call.output, call.lse);
  return true;
}

bool FusedAttention::backward(const Gpu& gpu, const AttentionBackward& call) {
  if (!call.delta_is_of_output || !fits(call)) return false;
  const Plan& plan = plan_of(gpu, call.form, call.queries, call.keys);
  if (!plan.possible) return false;
  Inputs<AttentionBackward> inputs(gpu, call, plan);
  for (const FusedCall& c : plan.calls)
    if (!kernel_->has_backward(inputs.backward_shape(c))) return false;

  const AttentionForm& form = call.form;
  const std::int64_t heads = form.heads, kv_heads = form.kv_heads;
  const Tensor dq = accumulator(gpu, call.dq_state, call.query_stage.first, call.q.rows(), form.query_width());
  const Tensor dk = accumulator(gpu, call.dk_state, call.key_stage.first, call.k.rows(), form.key_width());
  const Tensor dv = accumulator(gpu, call.dv_state, call.key_stage.first, call.k.rows(), form.key_width());
  for (const FusedCall& c : plan.calls) {
    const RectangleRows queries = queries_of(c), keys = keys_of(c);
    const Tensor lse(gpu.runtime, {c.batch, heads, c.queries}, Dtype::f32);
    const Tensor own_dq(gpu.runtime, {queries.rows(), form.query_width()}, Dtype::bf16),
        own_dk(gpu.runtime, {keys.rows(), form.key_width()}, Dtype::bf16),
        own_dv(gpu.runtime, {keys.rows(), form.key_width()}, Dtype::bf16);
    take_lse(gpu, queries, call.lse, lse);
    const auto [q, k, v] = inputs.make(c);
    const std::int64_t first = c.query_first * form.query_width();
    kernel_->backward(gpu, inputs.backward_shape(c),
                      {q, k, v, call.output.data<bfloat16>() + first, call.doutput.data<bfloat16>() + first,
                       lse.data<float>(), own_dq.data<bfloat16>(), own_dk.data<bfloat16>(), own_dv.data<bfloat16>()});
    const Base* const base = inputs.base_of(c);
    add_rectangle(gpu, queries, own_dq, heads, base ? base->query_return : Tensor(), inputs.decay(), dq);
    add_rectangle(gpu, keys, own_dk, kv_heads, base ? base->key_return : Tensor(), inputs.decay(), dk);
    add_rectangle(gpu, keys, own_dv, kv_heads, {}, {}, dv);
  }
  if (call.query_stage.last)
    turn_back(gpu, dq, heads, call.queries->rotary, inputs.query_distance(), inputs.decay(), call.dq);
  if (call.key_stage.last) {
    turn_back(gpu, dk, kv_heads, call.keys->rotary, inputs.key_distance(), inputs.decay(), call.dk);
    turn_back(gpu, dv, kv_heads, {}, {}, {}, call.dv);
  }
  return true;
}

}  // namespace lexring::cuda
