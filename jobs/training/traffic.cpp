#include "jobs/training/traffic.h"

#include <algorithm>
#include <limits>

#include "jobs/training/training_batches.h"
#include "models/patterns.h"

namespace lexring {
namespace {

double number(std::int64_t value) { return static_cast<double>(value); }

bool makes_again(const StepShape& s, Recompute half) {
  return s.runtime.recompute == half || s.runtime.recompute == Recompute::layer;
}

struct Sizes {
  double rows, layers, width, heads, key_heads, head_width, ffn_width, working, master, residual, cp, ulysses, ring, tp;
  double attention_passes, ffn_passes;  ///< forward passes of the halves of a layer, but for attention itself
  double products_again;                ///< of a layer, that gather or scatter rows

  explicit Sizes(const StepShape& s)
      : rows(number(s.sequences * s.length) / s.mesh.size(Axis::cp)),
        layers(number(s.model.layers)),
        width(number(s.model.width)),
        heads(number(s.model.heads) / s.mesh.size(Axis::tp)),
        key_heads(std::max(1.0, number(s.model.kv_heads) / s.mesh.size(Axis::tp))),
        head_width(number(s.model.width_of_head())),
        ffn_width(number(s.model.ffn_width)),
        working(s.runtime.precision == Precision::bf16   ? 2
                : s.runtime.precision == Precision::fp64 ? 8
                                                         : 4),
        master(s.runtime.precision == Precision::fp64 ? 8 : 4),
        residual(s.runtime.precision == Precision::fp64 ? 8
                 : s.runtime.residual == Dtype::bf16    ? 2
                                                        : 4),
        cp(s.mesh.size(Axis::cp)),
        ulysses(s.mesh.ulysses),
        ring(s.mesh.ring()),
        tp(s.mesh.size(Axis::tp)),
        attention_passes(makes_again(s, Recompute::attention) ? 2 : 1),
        ffn_passes(makes_again(s, Recompute::ffn) ? 2 : 1),
        products_again(s.runtime.recompute == Recompute::none    ? 0
                       : s.runtime.recompute != Recompute::layer ? 1
                       : s.model.parallel                        ? 2
                                                                 : 3) {}
};

/// Rows that a sequence's keys are passed on, over all places.
double rows_passed(const StepShape& s) {
  const double places = s.mesh.ring(), own = number(s.length) / places, pairs = places * (places - 1);
  const AttentionConfig& a = s.model.attention;
  if (a.pattern->sees_later || a.landmarks()) return own * pairs;
  if (a.pattern->halves) return std::numeric_limits<double>::quiet_NaN();
  if (a.pattern->sees_all()) {
    switch (s.runtime.partition) {
      case PartitionKind::contiguous:
        return own * pairs / 2;
      case PartitionKind::zigzag:
        return 0.75 * own * pairs;
      default:
        return (own - 0.5) * pairs;
    }
  }
  if (s.runtime.partition != PartitionKind::contiguous) return std::numeric_limits<double>::quiet_NaN();
  if (a.pattern->window && !a.pattern->sinks && number(a.window) <= own) return (places - 1) * number(a.window - 1);
  if (a.pattern->block && s.length % (s.mesh.ring() * a.block) == 0)
    return (places - 1) * number(a.block - make_pattern(a)->first_visible(a.block));
  return std::numeric_limits<double>::quiet_NaN();
}

double ring_bytes(const StepShape& s, const Sizes& z) {
  if (z.ring == 1) return 0;
  const double columns = 2 * std::max(1.0, z.key_heads / z.ulysses) * z.head_width;
  return z.layers * number(s.sequences) * rows_passed(s) / z.ring * columns * (2 * z.working + z.master);
}

double ulysses_bytes(const Sizes& z) {
  const double heads = 2 * z.heads + 2 * std::max(z.key_heads, z.ulysses);
  return z.layers * z.rows * (z.ulysses - 1) / z.ulysses * heads * z.head_width * z.working * (z.attention_passes + 1);
}

double gated_layers(const StepShape& s) {
  double layers = 0;
  for (std::int64_t n = 0; n < s.model.layers; ++n) layers += s.model.layer(n).attention.forget_gate ? 1 : 0;
  return layers;
}

double gate_bytes(const StepShape& s, const Sizes& z) {
  return gated_layers(s) * z.rows * z.heads * (z.cp - 1) * ((z.attention_passes + 2) * z.working + 2 * z.master);
}

/// Of a row of all layers: what low-rank additions bring from rows to all rows, or the other way.
double adapter_columns(const StepShape& s, const Sizes& z) {
  const AdapterConfig& adapter = s.model.adapter;
  double columns = 0;
  for (const AdapterTarget target : adapter.targets) {
    switch (target) {
      case AdapterTarget::query:
      case AdapterTarget::key:
      case AdapterTarget::value:
        columns += z.attention_passes + 1;
        break;
      case AdapterTarget::gate:
      case AdapterTarget::up:
        columns += z.ffn_passes + 1;
        break;
      case AdapterTarget::output:
        columns += s.runtime.recompute == Recompute::layer && !s.model.parallel ? 3 : 2;
        break;
      case AdapterTarget::down:
        columns += 2;
    }
  }
  return z.layers * columns * number(adapter.rank);
}

/// Of a row: inputs that are not gathered again, because no gradient of a weight needs them.
double spared_bytes(const StepShape& s, const Sizes& z, const std::vector<Parameter>& trained) {
  const auto is_trained = [&](const std::string& name) {
    return std::any_of(trained.begin(), trained.end(), [&](const Parameter& of) { return of.name == name; });
  };
  double bytes = is_trained("embedding") ? 0 : z.width * z.residual;
  for (std::int64_t n = 0; n < s.model.layers; ++n) {
    for (const char* weight : {"attention.query", "ffn.up"})
      bytes += is_trained(fmt::format("layers.{}.{}.weight", n, weight)) ? 0 : z.width * z.working;
  }
  return bytes;
}

double tp_bytes(const StepShape& s, const Sizes& z, const std::vector<Parameter>& trained) {
  const double leaving = (z.tp - 1) / z.tp;
  const double products = (s.model.parallel ? 8 : 10) + z.products_again;
  double per_row = z.layers * products * z.width * z.working + 2 * z.width * z.working + 2 * z.width * z.residual;
  if (s.model.sub_norm)
    per_row += z.layers * 2 *
               ((z.attention_passes + 1) * z.heads * z.head_width + (z.ffn_passes + 1) * z.ffn_width / z.tp) *
               z.working;
  per_row += adapter_columns(s, z) * z.working - spared_bytes(s, z, trained);
  per_row += gated_layers(s) * (z.attention_passes + 1) * z.heads * z.working;
  double replicated = 0;
  for (const Parameter& parameter : trained) {
    if (parameter.copies == s.mesh.size(Axis::tp)) replicated += number(parameter.gradient.elements());
  }
  return z.rows * (per_row * leaving + 2 * z.master * (z.tp - 1)) + 2 * replicated * z.master * leaving;
}

double gradient_bytes(const StepShape& s, const Sizes& z, const std::vector<Parameter>& trained) {
  const double replicas = s.mesh.size(Axis::dp) * s.mesh.size(Axis::cp);
  double elements = 0, read = 0;  // bytes of the values that are read
  for (const Parameter& parameter : trained) {
    elements += number(parameter.gradient.elements());
    read += number(parameter.gradient.elements()) *
            (parameter.compute.defined() && !parameter.looked_up ? z.working : z.master);
  }
  const double times = s.shard == Shard::none ? 2 : s.shard == Shard::gradients ? number(s.micro_batches) : 1;
  const double reduced = elements * z.master * times;
  const double targets = s.mesh.size(Axis::cp) == 1 ? 8 * (replicas - 1) : 0;
  const double gates = s.mesh.size(Axis::dp) == 1 ? gate_bytes(s, z) : 0;
  return (replicas - 1) / replicas * (s.shard == Shard::none ? reduced : reduced + read) + targets + gates;
}

}  // namespace

StepShape step_shape(const Options& o, const Context& context) {
  const Communicator& dp = context.axis(Axis::dp);
  const auto ranges = micro_batches(0, o.train.batch, dp.rank(), dp.size(), o.train.micro_batch);
  return {o.model,
          runtime_of(o),
          context.mesh(),
          o.optimizer.shard,
          o.train.batch / dp.size(),
          o.train.length,
          static_cast<std::int64_t>(ranges.size())};
}

StepBytes step_bytes(const StepShape& s, const std::vector<Parameter>& trained) {
  const Sizes z(s);
  return {ring_bytes(s, z), ulysses_bytes(z), z.tp > 1 ? tp_bytes(s, z, trained) : 0, gradient_bytes(s, z, trained)};
}

}  // namespace lexring
