#include "jobs/launch/model_use.h"

#include <algorithm>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/config/layer_keys.h"

namespace lexring {
namespace {

constexpr const char* names[] = {
    "attention.pattern",    "attention.window",         "attention.block",           "attention.sinks",
    "position.scaling",     "position.scaling_factor",  "position.original_length",  "position.beta_fast",
    "position.beta_slow",   "position.low_freq_factor", "position.high_freq_factor", "position.attention_factor",
    "attention.logn_base",  "attention.logn_clip",      "attention.temperature",     "attention.floor_scale",
    "attention.attn_scale", "attention.clamp",          "attention.cache_positions"};

/// What is given must have an effect; of a checkpoint's position.kind nothing can be changed.
void require_effects(Options& stored, const std::set<std::string>& given) {
  const PositionKind kind = stored.model.position.kind;
  const KeyTable table = option_keys(stored);
  for (const std::string name : names) {
    if (given.count(name) == 0) continue;
    require_usage(kind->rotary || !name.starts_with("position."),
                  "{} rescales rotary angles, but the checkpoint's position.kind = {} has none; leave it out", name,
                  kind->name);
    const std::string why = table.why_without_effect(*table.find(name));
    require_usage(why.empty(), "{}", why);
  }
}

void use_pattern(Options& stored, const std::set<std::string>& given) {
  const AttentionConfig asked = stored.model.attention;
  AttentionConfig& a = stored.model.attention;
  a = with_sizes(asked, stored.train.length);
  if (given.count("attention.block") != 0) a.block = asked.block;  // what is impossible is refused, not replaced
  if (given.count("attention.window") != 0) a.window = asked.window;
  if (given.count("attention.sinks") != 0) a.sinks = asked.sinks;
}

void check_scaling(const Options& stored, const std::set<std::string>& given) {
  const PositionConfig& p = stored.model.position;
  require_usage(given.count("position.scaling") == 0 || !needs_factor(p.scaling) || p.scaling_factor != 1,
                "position.scaling = {} with a position.scaling_factor of 1 changes nothing; give "
                "--position.scaling_factor, e.g. 4 for text four times as long as in training",
                name_of(p.scaling));
}

}  // namespace

std::vector<Key> model_use_keys(Options& options) {
  const KeyTable all = option_keys(options);
  std::vector<Key> keys;
  for (const char* name : names) {
    keys.push_back(*all.find(name));
    keys.back().default_text = "the checkpoint's";
  }
  return keys;
}

void use_model(Options& stored, Options& wanted, const std::set<std::string>& given) {
  const LayerSettings layers(stored.model);
  const std::vector<Key> to = model_use_keys(stored), from = model_use_keys(wanted);
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (given.count(to[i].name) == 0) continue;
    assign(to[i], {text_of(from[i].target)}, "");
  }
  require_effects(stored, given);
  use_pattern(stored, given);
  check_scaling(stored, given);
  layers.apply(stored.model);
}

AttentionConfig with_sizes(AttentionConfig a, std::int64_t train_length) {
  if (a.block == 0) a.block = std::max<std::int64_t>(1, train_length / 2);
  if (a.window == 0) a.window = train_length;
  if (!a.pattern->sinks) a.sinks = 0, a.cache_positions = false;
  else if (a.sinks == 0) a.sinks = 4;
  return a;
}

std::string describe(const AttentionConfig& a) {
  std::string text = a.pattern->name;
  if (a.pattern->block) text += fmt::format(", block {}", a.block);
  else if (a.pattern->window)
    text = fmt::format("window of {}{}", a.window, a.pattern->sinks ? " and " + counted(a.sinks, "sink") : "");
  if (a.cache_positions) text += ", positions in the cache";
  if (a.logn_base > 0) text += fmt::format(", log-n {}{}", a.logn_base, a.logn_clip ? "" : " also below it");
  if (a.temperature != 1) text += fmt::format(", temperature {:g}", a.temperature);
  if (a.floor_scale > 0) text += fmt::format(", floor scale {} by {:g}", a.floor_scale, a.attn_scale);
  if (a.forget_gate) text += ", forget gate";
  if (a.ssmax) text += ", scalable softmax";
  if (a.softcap > 0) text += fmt::format(", scores capped at {:g}", a.softcap);
  if (a.clamp > AttentionConfig::no_clamp) text += fmt::format(", clamped at {:g}", a.clamp);
  if (a.normalizer != Normalizer::softmax) text += fmt::format(", {}", name_of(a.normalizer));
  return text;
}

std::string describe(const PositionConfig& p) {
  const std::string kind = p.kind->name, scaling = name_of(p.scaling);
  if (p.scaling == Scaling::none) return kind;
  if (reads_factor(p.scaling)) return fmt::format("{} ({}, factor {})", kind, scaling, p.scaling_factor);
  return fmt::format("{} ({} {})", kind, scaling, p.original_length);
}

}  // namespace lexring
