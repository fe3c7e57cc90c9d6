#include "framework/attention/block.h"

#include <string_view>

#include "framework/base/error.h"

namespace lexring {
namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

Dtype master_of(Dtype working) { return working == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

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

void check_rotary(std::string_view name, const RotaryTable& table, std::int64_t rows, const AttentionSpec& spec,
                  Dtype dtype) {
  if (!spec.rotary) return;
  check_tensor(name, table.cosine, rows, spec.head_width / 2, dtype);
  check_tensor(name, table.sine, rows, spec.head_width / 2, dtype);
}

/// What forward and backward share: `Call` has spec, queries, keys, rotary tables, visible, q, k, v.
template <class Call>
void check_inputs(const Call& call) {
  const AttentionSpec& spec = call.spec;
  check_supported(spec);
  check(call.queries);
  check(call.keys);
  const std::int64_t n = call.queries.rows(), m = call.keys.rows();
  const Dtype working = call.q.matrix.defined() ? call.q.dtype() : Dtype::f32;
  require(working != Dtype::i32, "attention's 'q' holds i32; expected a floating dtype");
  check_columns("q", call.q, n, spec.heads * spec.head_width, working);
  check_columns("k", call.k, m, spec.kv_heads * spec.head_width, working);
  check_columns("v", call.v, m, spec.kv_heads * spec.head_width, working);
  check_rotary("query rotary table", call.query_rotary, n, spec, master_of(working));
  check_rotary("key rotary table", call.key_rotary, m, spec, master_of(working));
  const Visibility& visible = call.visible;
  require(visible.first.size() == size(n), "the visibility has {} rows for {} queries", visible.first.size(), n);
  require(visible.sink_begin.size() == visible.sink_end.size() &&
              (visible.sink_begin.empty() || visible.sink_begin.size() == size(n)),
          "the visibility has {} and {} ends of second intervals for {} queries; give one each, or none",
          visible.sink_begin.size(), visible.sink_end.size(), n);
}

}  // namespace

std::vector<TokenTile> make_tiles(const TokenTable& tokens, std::int64_t largest, std::int64_t span) {
  require(largest >= 1 && span >= 0, "tiles of at most {} tokens and a span of {} positions are impossible", largest,
          span);
  std::vector<TokenTile> tiles;
  for (std::size_t s = 0; s < tokens.sequences.size(); ++s) {
    const auto& sequence = tokens.sequences[s];
    const std::int64_t end = sequence.first + sequence.count;
    for (std::int64_t first = sequence.first; first < end;) {
      std::int64_t next = first + 1;
      while (next < end && next - first < largest && tokens.position[size(next)] - tokens.position[size(first)] <= span)
        ++next;
      tiles.push_back({static_cast<std::int64_t>(s), first, next - first});
      first = next;
    }
  }
  return tiles;
}

void check(const AttentionForward& call) {
  check_inputs(call);
  const std::int64_t n = call.queries.rows(), h = call.spec.heads, width = h * call.spec.head_width;
  const Dtype working = call.q.dtype(), master = master_of(working);
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
  const std::int64_t n = call.queries.rows(), m = call.keys.rows(), h = call.spec.heads;
  const std::int64_t query_width = h * call.spec.head_width, key_width = call.spec.kv_heads * call.spec.head_width;
  const Dtype working = call.q.dtype(), master = master_of(working);
  check_tensor("doutput", call.doutput, n, query_width, working);
  check_tensor("lse", call.lse, n, h, master);
  check_tensor("delta", call.delta, n, h, master);
  if (!call.query_stage.first || !call.query_stage.last)
    check_tensor("dq_state", call.dq_state, n, query_width, master);
  if (!call.key_stage.first || !call.key_stage.last) {
    check_tensor("dk_state", call.dk_state, m, key_width, master);
    check_tensor("dv_state", call.dv_state, m, key_width, master);
  }
  if (call.query_stage.last) check_columns("dq", call.dq, n, query_width, working);
  if (call.key_stage.last) {
    const Dtype keys = call.dk.matrix.defined() && call.dk.dtype() == master ? master : working;
    check_columns("dk", call.dk, m, key_width, keys);
    check_columns("dv", call.dv, m, key_width, keys);
  }
}

}  // namespace lexring
