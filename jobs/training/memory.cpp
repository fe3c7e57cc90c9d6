#include "jobs/training/memory.h"

#include <algorithm>

#include "framework/ops/linear_cross_entropy.h"

namespace lexring {
namespace {

/// Bytes of a row on a place of cp, and of its parts on a rank.
struct RowBytes {
  double tp, ring, ulysses, working, master;
  double stream, branch, gathered;  ///< r D / R, b D / R, b D
  double query, key_value, statistics, inner, activation, norm, rotation;
  double attention_half, ffn_half;  ///< what is kept of each where nothing is made again

  explicit RowBytes(const StepShape& s) {
    const ModelConfig& model = s.model;
    const bool exact = s.runtime.precision == Precision::fp64, half = s.runtime.precision == Precision::bf16;
    tp = s.mesh.size(Axis::tp), ring = s.mesh.ring(), ulysses = s.mesh.ulysses;
    working = exact ? 8 : half ? 2 : 4, master = exact ? 8 : 4;
    const double residual = exact ? 8 : s.runtime.residual == Dtype::bf16 ? 2 : 4;
    const auto width = static_cast<double>(model.width), heads = static_cast<double>(model.heads),
               kv_heads = static_cast<double>(model.kv_heads), head_width = static_cast<double>(model.width_of_head());
    stream = residual * width / tp, branch = working * width / tp, gathered = working * width;
    query = working * heads * head_width / tp, key_value = working * 2 * head_width * std::max(1.0, kv_heads / tp);
    statistics = master * heads / tp;
    activation = working * static_cast<double>(model.ffn_width) / tp;
    inner = activation * (model.ffn == Ffn::swiglu ? 2 : 1);
    norm = master * (model.norm == NormKind::layernorm ? 2 : 1) / tp;
    rotation = master * head_width;
    const double exchanged = tp > 1 ? 2 : 0;  // a sub-norm's rows, and its columns
    attention_half = stream + norm + 2 * query + key_value + statistics;
    ffn_half = (model.parallel ? 0 : stream) + norm + inner;  // in parallel both read one stream
    if (model.qk_norm) attention_half += master * (heads + kv_heads) / tp;
    if (!model.sub_norm) return;
    attention_half += norm + exchanged * query;
    ffn_half += norm + exchanged * activation;
  }
};

/// What a layer keeps from forward to backward.
double kept(const RowBytes& row, const StepShape& s) {
  const bool parallel = s.model.parallel;
  switch (s.runtime.recompute) {
    case Recompute::none:
      break;
    case Recompute::attention:
      return (parallel ? row.stream + row.norm : row.branch) + row.query + row.statistics + row.ffn_half;
    case Recompute::ffn:
      return row.attention_half + (parallel ? row.norm : row.branch);
    case Recompute::layer:
      return row.stream + row.norm * (parallel ? 2 : 1) + row.query + row.statistics;
  }
  return row.attention_half + row.ffn_half;
}

/// The most that backward of a layer's half holds, with what the layer keeps.
double in_ffn(const RowBytes& row, const StepShape& s) {
  const Recompute again = s.runtime.recompute;
  const bool parallel = s.model.parallel;  // what is made again of both halves is there when the first of them begins
  const double held = again == Recompute::attention && !parallel ? kept(row, s)
                      : again == Recompute::ffn && !parallel     ? row.attention_half + row.branch + row.ffn_half
                                                                 : row.attention_half + row.ffn_half;
  double inside = row.activation * (s.model.sub_norm ? 2 : 1) + row.inner + (parallel ? row.query : 0);
  if (row.tp > 1) inside = std::max({inside, row.gathered + 2 * row.activation, 2 * row.gathered + row.inner});
  return held + row.stream + inside;
}

double in_attention(const RowBytes& row, const StepShape& s, DeviceType device) {
  const bool branch = s.runtime.recompute == Recompute::attention && !s.model.parallel;
  const double held = row.attention_half + (branch ? row.branch : 0);
  const double fused = row.query + row.key_value, as_master = row.master / row.working;
  double inside = row.query + fused + as_master * fused + row.statistics;
  if (device == DeviceType::cuda) inside += fused;
  if (s.model.qk_norm) inside += fused;  // the normed heads, made again
  const bool landmarks = s.model.attention.landmarks();
  if (landmarks) {  // a block's output, another one, their statistics; all keys, and their gradients twice
    inside += 2 * row.query + 3 * row.statistics;
    if (row.ring > 1) inside += row.ring * row.key_value * (1 + 2 * as_master);
  } else {
    inside += std::min(2.0, row.ring - 1) * row.key_value * (1 + as_master);
  }
  if (row.ulysses > 1) inside += 2 * fused;
  if (row.tp > 1) inside = std::max(inside, 2 * row.gathered + fused);
  return held + row.stream + inside;
}

double in_loss(const RowBytes& row, const StepShape& s, double rows, DeviceType device) {
  const std::int64_t columns = (s.model.vocab + s.mesh.size(Axis::tp) - 1) / s.mesh.size(Axis::tp);
  const Dtype master = row.master == 8 ? Dtype::f64 : Dtype::f32;
  const double chunk = std::min(rows, static_cast<double>(loss_chunk_rows(columns, master, device)));
  const double logits = row.master * (row.tp > 1 ? 2 : 1) + row.working;
  return rows * (row.stream + 2 * row.gathered + (row.tp > 1 ? row.branch : 0)) +
         chunk * static_cast<double>(columns) * logits;
}

}  // namespace

double step_memory(const StepShape& s, DeviceType device) {
  const RowBytes row(s);
  const std::int64_t cp = s.mesh.size(Axis::cp), at_once = (s.sequences + s.micro_batches - 1) / s.micro_batches,
                     of_each = (s.length + cp - 1) / cp;
  const auto rows = static_cast<double>(at_once * of_each), layers = static_cast<double>(s.model.layers);
  const double layer = rows * kept(row, s);
  return std::max(layers * layer + in_loss(row, s, rows, device),
                  (layers - 1) * layer + rows * std::max(in_ffn(row, s), in_attention(row, s, device))) +
         rows * row.ring * row.rotation;
}

}  // namespace lexring
