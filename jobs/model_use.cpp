#include "jobs/model_use.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr const char* names[] = {"attention.pattern",        "attention.window",   "attention.block",
                                 "attention.sinks",          "position.scaling",   "position.scaling_factor",
                                 "position.original_length", "position.beta_fast", "position.beta_slow"};

struct Effect {
  const char* key;
  std::vector<std::string> with;  ///< values of attention.pattern or position.scaling under which the key matters
};

void require_effects(const char* choice, const std::string& chosen, const std::vector<Effect>& effects,
                     const std::set<std::string>& given) {
  for (const auto& [key, with] : effects) {
    require_usage(given.count(key) == 0 || std::find(with.begin(), with.end(), chosen) != with.end(),
                  "{} changes nothing with {} = {}; add --{} {}, or leave it out", key, choice, chosen, choice, with.front());
  }
}

void use_pattern(Options& stored, const std::set<std::string>& given) {
  AttentionConfig& a = stored.model.attention;
  require_effects(
      "attention.pattern", a.pattern,
      {{"attention.block", {"blockwise"}}, {"attention.window", {"window", "sink_window"}}, {"attention.sinks", {"sink_window"}}}, given);
  if (a.block == 0 && given.count("attention.block") == 0) a.block = std::max<std::int64_t>(1, stored.train.length / 2);
  if (a.window == 0 && given.count("attention.window") == 0) a.window = stored.train.length;
  if (a.pattern != "sink_window") a.sinks = 0;
  if (a.pattern == "sink_window" && a.sinks == 0 && given.count("attention.sinks") == 0) a.sinks = 4;
}

void use_scaling(Options& stored, const std::set<std::string>& given) {
  PositionConfig& p = stored.model.position;
  const bool rotary = p.kind == "rope" || p.kind == "xpos";
  for (const char* name : names) {
    require_usage(rotary || given.count(name) == 0 || !std::string(name).starts_with("position."),
                  "{} rescales rotary angles, but the checkpoint's position.kind = {} has none; leave it out", name, p.kind);
  }
  require_effects("position.scaling", p.scaling,
                  {{"position.scaling_factor", {"linear", "ntk", "yarn", "repeat"}},
                   {"position.original_length", {"yarn", "modulo"}},
                   {"position.beta_fast", {"yarn"}},
                   {"position.beta_slow", {"yarn"}}},
                  given);
  const bool by_factor = p.scaling != "none" && p.scaling != "modulo";
  require_usage(
      given.count("position.scaling") == 0 || !by_factor || p.scaling_factor != 1,
      "position.scaling = {} with a position.scaling_factor of 1 changes nothing; give --position.scaling_factor, e.g. 4 for text "
      "four times as long as in training",
      p.scaling);
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
  const std::vector<Key> to = model_use_keys(stored), from = model_use_keys(wanted);
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (given.count(to[i].name) == 0) continue;
    std::visit([&](auto* value) { *value = *std::get<decltype(value)>(from[i].target); }, to[i].target);
  }
  use_pattern(stored, given);
  use_scaling(stored, given);
}

std::string describe(const AttentionConfig& a) {
  if (a.pattern == "blockwise") return fmt::format("blockwise, block {}", a.block);
  if (a.pattern == "window") return fmt::format("window of {}", a.window);
  if (a.pattern == "sink_window") return fmt::format("window of {} and {} sinks", a.window, a.sinks);
  return a.pattern;
}

std::string describe(const PositionConfig& p) {
  if (p.scaling == "none") return p.kind;
  if (p.scaling == "modulo") return fmt::format("{} (modulo {})", p.kind, p.original_length);
  return fmt::format("{} ({}, factor {})", p.kind, p.scaling, p.scaling_factor);
}

}  // namespace lexring
