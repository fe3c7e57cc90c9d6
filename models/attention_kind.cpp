#include "models/attention_kind.h"

#include <algorithm>
#include <cmath>

#include "models/batch.h"
#include "models/head_pieces.h"

namespace lexring {

namespace {

AttentionForm make_form(const ModelConfig& model, const LayerConfig& layer, const PositionEncoding& position) {
  AttentionForm form;
  form.heads = model.heads;
  form.kv_heads = model.kv_heads;
  form.head_width = model.width_of_head();
  form.scale = 1.0 / std::sqrt(static_cast<double>(form.head_width)) / layer.attention.temperature;
  form.softcap = layer.attention.softcap;
  if (layer.attention.clamp > AttentionConfig::no_clamp) form.clamp = layer.attention.clamp;
  if (!layer.attention.landmarks()) form.normalizer = layer.attention.normalizer;
  position.shape(form);
  return form;
}

/// The kinds of a layer: one, or one for each piece of this rank's heads.
std::vector<AttentionKind> make_kinds(const ModelConfig& model, const LayerConfig& layer, const Communicator& tp) {
  const AttentionForm form = make_form(model, layer, *make_position(model, layer.position));
  const HeadShare own = head_share(form, tp.rank(), tp.size());
  const std::int64_t border = layer.attention.pattern->halves ? model.heads / 2 - own.first : own.heads;
  std::vector<AttentionKind> kinds;
  for (const HeadShare& piece : head_pieces(form_of(form, own), border)) {
    AttentionKind& kind = kinds.emplace_back();
    kind.config = layer;
    kind.position = make_position(model, layer.position);
    kind.pattern = make_pattern(layer.attention);
    if (piece.first >= border) kind.pattern = kind.pattern->of_later_heads();
    kind.own_heads = own;
    kind.piece = piece;
    kind.form = form_of(form, piece);
    check(kind.form);
    const std::vector<float> slopes = kind.position->slopes(model.heads);
    if (slopes.empty()) continue;
    const auto first = slopes.begin() + own.first + piece.first;
    kind.slopes.assign(first, first + piece.heads);
  }
  return kinds;
}

}  // namespace

const ModelBatch& AttentionKind::seen_as(const ModelBatch& batch, ModelBatch& counted) const {
  if (!config.attention.cache_positions) return batch;
  return counted = counted_in_tokens(batch);
}

std::int64_t AttentionKind::length(const TokenTable& tokens, const Visibility& visible) const {
  if (!config.attention.cache_positions) return length_of(tokens);
  std::int64_t longest = 0;  // document
  for (std::size_t n = 0; n < visible.sink_begin.size(); ++n)
    longest = std::max(longest, tokens.position[n] - visible.sink_begin[n] + 1);
  return std::min(longest, config.attention.sinks + config.attention.window);
}

RotaryTable AttentionKind::rotary(Runtime& runtime, const TokenTable& tokens, std::int64_t of_length, Dtype master) {
  const std::optional<RotaryAngles> angles = position->rotary(of_length);
  if (!angles) return {};
  // Documents, which positions do not tell, decide about the length of a cache.
  return config.attention.cache_positions ? make_rotary_table(runtime, *angles, tokens, master)
                                          : rotary_tables.make(runtime, *angles, tokens, master);
}

KindRows AttentionKind::rows(Runtime& runtime, const TokenTable& tokens, Visibility visible, Dtype master) {
  const SharedRows last = last_rows.keys;
  if (last != nullptr && last->tokens == tokens && last->visible == visible) return last_rows;
  const std::int64_t of_length = length(tokens, visible);
  std::vector<PartPlan> plans = parts(form, tokens, visible);
  last_rows = {make_rows(tokens, rotary(runtime, tokens, of_length, master), std::move(visible)), {}};
  for (PartPlan& plan : plans)
    last_rows.parts.push_back(part(std::move(plan), runtime, last_rows.keys, of_length, master));
  return last_rows;
}

namespace {

/// Keys of the window, which stand behind the sinks in a cache as they do in the text; and sinks, which see a query no
/// later than a full cache has it, `last` tokens after the first sink.
std::vector<PartPlan> apart_from_sinks(const AttentionForm& form, const TokenTable& tokens, const Visibility& visible,
                                       std::int64_t last) {
  PartPlan window{form, {}, {}}, sinks{form, {}, {}};
  for (std::size_t n = 0; n < tokens.position.size(); ++n) {
    const std::int64_t own = tokens.position[n], start = visible.sink_begin[n];
    window.visible.first.push_back(std::max(visible.first[n], visible.sink_end[n]));
    sinks.visible.first.push_back(start);
    sinks.visible.end.push_back(std::min(visible.sink_end[n], own + 1));
    sinks.position.push_back(start + std::min(own - start, last));
  }
  return {std::move(window), std::move(sinks)};
}

}  // namespace

std::vector<PartPlan> AttentionKind::parts(const AttentionForm& of, const TokenTable& tokens,
                                           const Visibility& visible) const {
  const AttentionConfig& a = config.attention;
  if (a.cache_positions) return apart_from_sinks(of, tokens, visible, a.sinks + a.window - 1);
  if (pattern->sees_later() && (of.decays() || position->sided())) return both_sides(of, tokens, visible);
  return {{of, visible, {}}};
}

AttentionPart AttentionKind::part(PartPlan plan, Runtime& runtime, const SharedRows& keys, std::int64_t of_length,
                                  Dtype master, const std::vector<std::int64_t>* places) const {
  TokenTable tokens = keys->tokens;
  RotaryTable turned = keys->rotary;
  if (places != nullptr) {
    const std::int64_t first = places->empty() ? 0 : places->front(), count = static_cast<std::int64_t>(places->size());
    tokens = {{{keys->tokens.sequences.front().id, 0, count}}, take_rows(tokens.position, *places)};
    if (turned.cosine.defined()) turned = {turned.cosine.slice(first, count), turned.sine.slice(first, count)};
    plan.visible = take_rows(plan.visible, *places);
    plan.position = take_rows(plan.position, *places);
  }
  if (plan.position.empty()) {
    const bool same = places == nullptr && plan.visible == keys->visible;  // kernels know rows that they have met
    return {std::move(plan.form), same ? keys : make_rows(tokens, std::move(turned), std::move(plan.visible)),
            plan.later};
  }
  const std::optional<RotaryAngles> angles = position->rotary(of_length);
  turned = angles ? make_rotary_table(runtime, *angles, {tokens.sequences, plan.position}, master) : RotaryTable();
  return {std::move(plan.form),
          make_queries(tokens, std::move(plan.position), std::move(turned), std::move(plan.visible)), plan.later};
}

BiasTerms AttentionKind::bias(Tape& tape, const PositionParameters& parameters, std::int64_t longest,
                              Dtype master) const {
  BiasTerms terms;
  if (pattern->sees_later() && position->sided()) {
    terms.by_distance = position->sided_bias(tape, parameters, false, longest, master);
    terms.later = position->sided_bias(tape, parameters, true, longest, master);
  } else {
    terms.by_distance = position->bias_by_distance(tape, parameters, own_heads, longest, master);
  }
  if (!has_all_heads()) terms = slice_heads(tape, terms, piece.first, piece.heads);
  terms.slopes = slopes;
  terms.log_distance = position->log_distance(tape.runtime(), parameters, longest, master);
  return terms;
}

AttentionKinds::AttentionKinds(const ModelConfig& config, const LayerRange& range, const Communicator& tp)
    : first_(range.first) {
  for (std::int64_t n = range.first; n < range.last; ++n) {
    const LayerConfig layer = config.layer(n);
    std::vector<std::size_t>& own = of_layer_.emplace_back();
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (kinds_[k].config == layer) own.push_back(k);
    }
    if (!own.empty()) continue;
    for (AttentionKind& kind : make_kinds(config, layer, tp)) {
      own.push_back(kinds_.size());
      kinds_.push_back(std::move(kind));
    }
  }
}

std::int64_t AttentionKinds::layers(std::size_t kind) const {
  return std::count_if(of_layer_.begin(), of_layer_.end(),
                       [&](const auto& own) { return std::find(own.begin(), own.end(), kind) != own.end(); });
}

}  // namespace lexring
