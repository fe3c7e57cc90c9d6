#include "framework/attention/call.h"

#include <string_view>

#include "framework/base/error.h"

namespace lexring {
namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

void check_tensor(std::string_view name, const Tensor& t, std::int64_t rows, std::int64_t width, Dtype dtype) {
  require(t.defined(), "attention needs the tensor '{}' here, which is undefined", name);
  require(t.rows() == rows && t.elements() == rows * width && t.dtype() == dtype,
          "attention's '{}' is {} {}; expected [{}, {}] {}", name, to_string(t.shape()), name_of(t.dtype()), rows,
          width, name_of(dtype));
}

void check_columns(std::string_view name, const Columns& c, std::int64_t rows, std::int64_t width, Dtype dtype) {
  require(c.matrix.defined(), "attention needs '{}' here, which is undefined", name);
  require(c.rows() == rows && c.width == width && c.dtype() == dtype,
          "attention's '{}' is [{}, {}] {}; expected [{}, {}] {}", name, c.rows(), c.width, name_of(c.dtype()), rows,
          width, name_of(dtype));
  require(c.first >= 0 && c.first + c.width <= c.stride(), "attention's '{}' is columns [{}, {}) of a matrix with {}",
          name, c.first, c.first + c.width, c.stride());
}

void check_rotary(std::string_view name, const AttentionRows& rows, const AttentionForm& form, Dtype dtype) {
  if (!form.rotary) return;
  check_tensor(name, rows.rotary.cosine, rows.tokens.rows(), form.head_width / 2, dtype);
  check_tensor(name, rows.rotary.sine, rows.tokens.rows(), form.head_width / 2, dtype);
}

void check_bias(const ScoreBias& bias, const AttentionForm& form, Dtype dtype) {
  require(bias.slopes.empty() || static_cast<std::int64_t>(bias.slopes.size()) == form.heads,
          "{} bias slopes are given for {} heads; there must be one for each", bias.slopes.size(), form.heads);
  if (!bias.by_distance.defined()) return;
  require(bias.by_distance.shape().size() == 2 && bias.by_distance.dim(1) > 0,
          "the bias by distance is {}; expected a row of distances for each head", to_string(bias.by_distance.shape()));
  check_tensor("bias by distance", bias.by_distance, form.heads, bias.by_distance.dim(1), dtype);
  if (!bias.relative()) return;
  require(bias.by_distance.dim(1) % 3 == 1 && bias.by_distance.dim(1) > 3,
          "a bias by relative distance has rows of {} numbers; expected 3 for each piece and one more",
          bias.by_distance.dim(1));
  require(bias.log_distance.shape().size() == 2, "the logs of distances are {}; expected two rows",
          to_string(bias.log_distance.shape()));
  check_tensor("logs of distances", bias.log_distance, 2, bias.log_distance.dim(1), dtype);
}

/// What forward and backward share: `Call` has form, bias, queries, keys, q, k, v. Rows were checked when they were
/// made.
template <class Call>
void check_inputs(const Call& call) {
  const AttentionForm& form = call.form;
  check(form);
  require(call.queries && call.keys, "attention needs rows of queries and of keys");
  const std::int64_t n = call.queries->tokens.rows(), m = call.keys->tokens.rows();
  const Dtype working = call.q.matrix.defined() ? call.q.dtype() : Dtype::f32;
  require(working != Dtype::i32, "attention's 'q' holds i32; expected a floating dtype");
  check_columns("q", call.q, n, form.query_width(), working);
  check_columns("k", call.k, m, form.key_width(), working);
  check_columns("v", call.v, m, form.key_width(), working);
  check_rotary("query rotary table", *call.queries, form, master_dtype(working));
  check_rotary("key rotary table", *call.keys, form, master_dtype(working));
  check_bias(call.bias, form, master_dtype(working));
  if (call.row_terms.defined()) {
    check_tensor("terms of queries", call.row_terms.queries, n, 2 * form.heads, master_dtype(working));
    check_tensor("terms of keys", call.row_terms.keys, m, 2 * form.heads, master_dtype(working));
  }
  require(call.queries->visible.first.size() == size(n), "the visibility has {} rows for {} queries",
          call.queries->visible.first.size(), n);
}

}  // namespace

void check(const AttentionForward& call) {
  check_inputs(call);
  const std::int64_t n = call.queries->tokens.rows(), h = call.form.heads, width = call.form.query_width();
  const Dtype working = call.q.dtype(), master = master_dtype(working);
  if (!call.stage.first || !call.stage.last) {
    check_tensor("state.output", call.state.output, n, width, master);
    check_tensor("state.maximum", call.state.maximum, n, h, master);
    check_tensor("state.sum", call.state.sum, n, h, master);
  }
  if (call.stage.last) {
    check_tensor("output", call.output, n, width, working);
    check_tensor("lse", call.lse, n, h, master);
  }
}

void check(const AttentionBackward& call) {
  check_inputs(call);
  const std::int64_t n = call.queries->tokens.rows(), m = call.keys->tokens.rows(), h = call.form.heads;
  const std::int64_t query_width = call.form.query_width(), key_width = call.form.key_width();
  const Dtype working = call.q.dtype(), master = master_dtype(working);
  check_tensor("output", call.output, n, query_width, working);
  check_tensor("doutput", call.doutput, n, query_width, working);
  check_tensor("lse", call.lse, n, h, master);
  check_tensor("delta", call.delta, n, h, master);
  if (!call.query_stage.first || !call.query_stage.last)
    check_tensor("dq_state", call.dq_state, n, query_width, master);
  if (!call.key_stage.first || !call.key_stage.last) {
    check_tensor("dk_state", call.dk_state, m, key_width, master);
    check_tensor("dv_state", call.dv_state, m, key_width, master);
  }
  const auto result = [&](const Columns& c) { return c.matrix.defined() && c.dtype() == master ? master : working; };
  if (call.query_stage.last) check_columns("dq", call.dq, n, query_width, result(call.dq));
  require(call.dby_distance.defined() == call.bias.by_distance.defined(),
          "the gradient of the bias by distance is {}, the bias {}",
          call.dby_distance.defined() ? "given" : "undefined", call.bias.by_distance.defined() ? "given" : "undefined");
  if (call.dby_distance.defined())
    check_tensor("gradient of the bias by distance", call.dby_distance, h, call.bias.distances(), master);
  if (call.row_terms.defined()) {
    check_tensor("gradient of the terms of queries", call.dquery_terms, n, h, master);
    check_tensor("gradient of the terms of keys", call.dkey_terms, m, h, master);
  }
  if (call.key_stage.last) {
    check_columns("dk", call.dk, m, key_width, result(call.dk));
    check_columns("dv", call.dv, m, key_width, result(call.dk));
  }
}

}  // namespace lexring
