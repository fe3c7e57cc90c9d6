#include "framework/backend/cuda/attention_flash_backward.h"

#include "framework/backend/cuda/attention_flash.h"

namespace lexring::cuda {

using namespace flash;

void flash_attention_backward(const Gpu& gpu, const AttentionBackward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, tile_rows, tile_rows);
  const std::int64_t width = ceil_div<std::int64_t>(form.head_width, 32) * 32;
  const HeadRows q =
      turned_rows(gpu, call.q, form.heads, width, call.queries->rotary, tables.query_distance, tables.decay);
  const HeadRows k =
      turned_rows(gpu, call.k, form.kv_heads, width, call.keys->rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, {}, {}, {});
  const HeadRows doutput = turned_rows(gpu, call.doutput, form.heads, width, {}, {}, {});
  const Turn query_turn(call.queries->rotary, tables.query_distance, tables.decay, form.head_width),
      key_turn(call.keys->rotary, tables.key_distance, tables.decay, form.head_width),
      no_turn({}, {}, {}, form.head_width);
  BackwardArguments arguments{.q = HeadView(q),
                              .k = HeadView(k),
                              .v = HeadView(v),
                              .doutput = HeadView(doutput),
                              .query_tiles = tables.queries(),
                              .key_tiles = tables.keys(),
                              .ranges = tables.rows(),
                              .decay = nullptr,
                              .query_position = nullptr,
                              .key_position = nullptr,
                              .slopes = nullptr,
                              .query_tiles_count = tables.query_tiles_count,
                              .key_tiles_count = tables.key_tiles_count,
                              .heads = static_cast<int>(form.heads),
                              .group = static_cast<int>(form.heads / form.kv_heads),
                              .width = static_cast<int>(form.head_width),
                              .scale = static_cast<float>(form.scale),
                              .binary_scale = static_cast<float>(form.scale) * log2_e,
                              .inverse_scale = 1.0F / (static_cast<float>(form.scale) * log2_e),
                              .lse = call.lse.data<float>(),
                              .delta = call.delta.data<float>(),
                              .dq = GradientRows(call.dq_state, call.query_stage, query_turn, call.dq),
                              .dk = GradientRows(call.dk_state, call.key_stage, key_turn, call.dk),
                              .dv = GradientRows(call.dv_state, call.key_stage, no_turn, call.dv)};
  if (tables.decay.defined()) arguments.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  if (tables.slopes.defined()) {
    arguments.query_position = tables.query_position.data<std::int32_t>(),
    arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
  flash::flash_backward_queries(gpu, arguments, width);
  flash::flash_backward_keys(gpu, arguments, width);
}

}  // namespace lexring::cuda
