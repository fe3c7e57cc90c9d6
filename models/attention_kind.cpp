#include "models/attention_kind.h"

#include <algorithm>
#include <cmath>

#include "models/batch.h"

namespace lexring {

namespace {

AttentionKind make_kind(const ModelConfig& model, const LayerConfig& layer, const Communicator& tp) {
  AttentionKind kind;
  kind.config = layer;
  kind.position = make_position(model, layer.position);
  kind.pattern = make_pattern(layer.attention);
  AttentionForm form;
  form.heads = model.heads;
  form.kv_heads = model.kv_heads;
  form.head_width = model.width / model.heads;
  form.scale = 1.0 / std::sqrt(static_cast<double>(form.head_width)) / layer.attention.temperature;
  form.softcap = layer.attention.softcap;
  if (layer.attention.clamp > AttentionConfig::no_clamp) form.clamp = layer.attention.clamp;
  form.normalizer = layer.attention.normalizer;
  kind.position->shape(form);
  const HeadShare own = kind.own_heads = head_share(form, tp.rank(), tp.size());
  kind.form = form_of(form, own);
  check(kind.form);
  const std::vector<float> slopes = kind.position->slopes(model.heads);
  if (!slopes.empty()) {
    const auto first = slopes.begin() + own.first;
    kind.slopes.assign(first, first + own.heads);
  }
  return kind;
}

}  // namespace

RotaryTable AttentionKind::rotary(Runtime& runtime, const TokenTable& tokens, Dtype master) {
  const std::optional<RotaryAngles> angles = position->rotary(length_of(tokens));
  return angles ? rotary_tables.make(runtime, *angles, tokens, master) : RotaryTable();
}

KindRows AttentionKind::rows(Runtime& runtime, const TokenTable& tokens, Visibility visible, Dtype master) {
  const SharedRows last = last_rows.keys;
  if (last != nullptr && last->tokens == tokens && last->visible == visible) return last_rows;
  std::vector<PartPlan> plans = parts(form, tokens, visible);
  last_rows = {make_rows(tokens, rotary(runtime, tokens, master), std::move(visible)), {}};
  if (plans.size() == 1) {
    last_rows.parts = {{std::move(plans.front().form), last_rows.keys}};
    return last_rows;
  }
  for (PartPlan& plan : plans) {
    last_rows.parts.push_back(
        {std::move(plan.form), make_rows(tokens, last_rows.keys->rotary, std::move(plan.visible)), plan.later});
  }
  return last_rows;
}

std::vector<PartPlan> AttentionKind::parts(const AttentionForm& of, const TokenTable& tokens,
                                           const Visibility& visible) const {
  if (pattern->sees_later() && (of.decays() || position->sided())) return both_sides(of, tokens, visible);
  return {{of, visible, {}}};
}

BiasTerms AttentionKind::bias(Tape& tape, const PositionParameters& parameters, std::int64_t longest,
                              Dtype master) const {
  if (!pattern->sees_later() || !position->sided())
    return {slopes, position->bias_by_distance(tape, parameters, own_heads, longest, master), {}};
  return {slopes, position->sided_bias(tape, parameters, false, longest, master),
          position->sided_bias(tape, parameters, true, longest, master)};
}

AttentionKinds::AttentionKinds(const ModelConfig& config, const LayerRange& range, const Communicator& tp)
    : first_(range.first) {
  for (std::int64_t n = range.first; n < range.last; ++n) {
    const LayerConfig layer = config.layer(n);
    const auto found =
        std::find_if(kinds_.begin(), kinds_.end(), [&](const AttentionKind& kind) { return kind.config == layer; });
    of_layer_.push_back(static_cast<std::size_t>(found - kinds_.begin()));
    if (found == kinds_.end()) kinds_.push_back(make_kind(config, layer, tp));
  }
}

std::int64_t AttentionKinds::layers(std::size_t kind) const {
  return std::count(of_layer_.begin(), of_layer_.end(), kind);
}

}  // namespace lexring
