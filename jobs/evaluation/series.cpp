#include "jobs/evaluation/series.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/error.h"
#include "jobs/launch/model_use.h"
#include "models/config_check.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

using Names = std::vector<std::string>;

template <class T>
std::vector<T> without_repeats(const std::vector<T>& values) {
  std::vector<T> once;
  for (const T& value : values) {
    if (std::find(once.begin(), once.end(), value) == once.end()) once.push_back(value);
  }
  return once;
}

std::vector<PatternKind> patterns_of(const SeriesKeys& keys, const Options& options) {
  if (!keys.patterns.empty()) return without_repeats(keys.patterns);
  if (options.train.objective == Objective::mlm) return {"full"};
  if (options.model.attention.landmarks()) return {"causal"};
  return {"causal", "blockwise"};
}

/// What multiplies all scores, as given, else the checkpoint's.
AttentionConfig with_scores(AttentionConfig a, const SeriesKeys& keys) {
  const auto given = [&](const char* key) { return keys.given.count(key) != 0; };
  if (given("attention.logn_clip")) a.logn_clip = keys.scores.logn_clip;
  if (given("attention.temperature")) a.temperature = keys.scores.temperature;
  if (given("attention.floor_scale")) a.floor_scale = keys.scores.floor_scale;
  if (given("attention.clamp")) a.clamp = keys.scores.clamp;
  if (given("attention.cache_positions")) a.cache_positions = keys.scores.cache_positions;
  if (given("attention.attn_scale")) a.attn_scale = keys.scores.attn_scale;
  else if (a.floor_scale == 0) a.attn_scale = AttentionConfig().attn_scale;
  return a;
}

/// The pattern at each of its sizes, and each log-n factor: those that were given, else the checkpoint's.
std::vector<AttentionConfig> attentions(const PatternKind& pattern, const SeriesKeys& keys, const Options& options) {
  AttentionConfig base = with_scores(options.model.attention, keys);
  base.pattern = pattern;
  base = with_sizes(base, options.train.length);
  const auto sizes = [](bool used, const std::vector<std::int64_t>& given, std::int64_t own) {
    return used && !given.empty() ? without_repeats(given) : std::vector<std::int64_t>{own};
  };
  std::vector<AttentionConfig> all;
  for (const std::int64_t block : sizes(pattern->block, keys.blocks, base.block)) {
    for (const std::int64_t window : sizes(pattern->window, keys.windows, base.window)) {
      for (const std::int64_t sinks : sizes(pattern->sinks, keys.sinks, base.sinks)) {
        for (const std::int64_t logn_base : sizes(true, keys.logn_bases, base.logn_base)) {
          AttentionConfig& a = all.emplace_back(base);
          a.block = block;
          a.window = window;
          a.sinks = sinks;
          a.logn_base = logn_base;
          if (logn_base == 0) a.logn_clip = AttentionConfig().logn_clip;
        }
      }
    }
  }
  return all;
}

/// A series with the checkpoint's positions, rescaled by `scaling`.
Series rescaled(Scaling scaling, const SeriesKeys& keys, const Options& options) {
  Series series;
  PositionConfig& p = series.position = options.model.position;
  const bool own = scaling == p.scaling;
  p.scaling = scaling;
  if (p.original_length <= 0) p.original_length = options.train.length;
  if (keys.given.count("position.original_length") != 0) p.original_length = keys.position.original_length;
  if (keys.given.count("position.beta_fast") != 0) p.beta_fast = keys.position.beta_fast;
  if (keys.given.count("position.beta_slow") != 0) p.beta_slow = keys.position.beta_slow;
  if (keys.given.count("position.scaling_factor") != 0) {
    p.scaling_factor = keys.position.scaling_factor;
  } else {
    series.factor_follows_length = !own && needs_factor(scaling);
  }
  return series;
}

std::vector<Series> positions(const SeriesKeys& keys, const Options& options) {
  const PositionConfig& own = options.model.position;
  std::vector<Series> all;
  const auto scalings =
      keys.scalings.empty() || !own.kind->rotary ? std::vector{own.scaling} : without_repeats(keys.scalings);
  for (const Scaling scaling : scalings) all.push_back(rescaled(scaling, keys, options));
  return all;
}

/// Refuses keys that change none of the series.
void check_effects(const SeriesKeys& keys, const std::vector<Series>& series, const std::vector<Subject>& subjects) {
  const auto require_any = [&](const char* key, const std::string& needed, const auto& uses) {
    const bool used = keys.given.count(key) == 0 || std::any_of(series.begin(), series.end(), uses);
    require_usage(used, "--{} has no effect: {}; leave it out", key, needed);
  };
  const auto require_pattern = [&](const char* key, bool PatternMethod::*reads) {
    const Names names = names_where<PatternKind>([&](const PatternKind& pattern) { return (*pattern).*reads; });
    require_any(key, fmt::format("no pattern of --patterns is {}", either(names)),
                [&](const Series& s) { return (*s.attention.pattern).*reads; });
  };
  require_pattern("attention.block", &PatternMethod::block);
  require_pattern("attention.window", &PatternMethod::window);
  require_pattern("attention.sinks", &PatternMethod::sinks);
  require_pattern("attention.cache_positions", &PatternMethod::sinks);
  require_any("attention.logn_clip", "no series has an attention.logn_base",
              [](const Series& s) { return s.attention.logn_base > 0; });
  require_any("attention.attn_scale", "no series has an attention.floor_scale",
              [](const Series& s) { return s.attention.floor_scale > 0; });
  Names kinds;
  for (const Subject& subject : subjects) kinds.emplace_back(subject.options.model.position.kind->name);
  const std::string no_angles =
      fmt::format("{} positions have no rotary angles", fmt::join(without_repeats(kinds), " and "));
  const bool rotary =
      std::any_of(series.begin(), series.end(), [](const Series& s) { return s.position.kind->rotary; });
  for (const char* key : {"position.scaling", "position.scaling_factor", "position.original_length",
                          "position.beta_fast", "position.beta_slow"}) {
    require_usage(rotary || keys.given.count(key) == 0, "--{} has no effect: {}; leave it out", key, no_angles);
  }
  const auto no_scaling = [](bool (*reads)(Scaling)) {
    return fmt::format("no position.scaling is {}", either(names_where<Scaling>(reads)));
  };
  require_any("position.scaling_factor", no_scaling(reads_factor),
              [](const Series& s) { return reads_factor(s.position.scaling); });
  require_any("position.original_length",
              no_scaling(reads_original_length) + ", or has a factor that follows the length",
              [](const Series& s) { return reads_original_length(s.position.scaling) || s.factor_follows_length; });
  for (const char* key : {"position.beta_fast", "position.beta_slow"})
    require_any(key, no_scaling(reads_ramp), [](const Series& s) { return reads_ramp(s.position.scaling); });
}

/// "blockwise 64", or without the size where it is the only one.
std::string pattern_name(const AttentionConfig& a, const SeriesKeys& keys) {
  std::string name = a.pattern->name;
  std::replace(name.begin(), name.end(), '_', ' ');
  if (a.pattern->block && keys.blocks.size() > 1) name += fmt::format(" {}", a.block);
  if (a.pattern->window && keys.windows.size() > 1) name += fmt::format(" {}", a.window);
  if (a.pattern->sinks && keys.sinks.size() > 1) name += fmt::format(" + {}", a.sinks);
  if (a.cache_positions) name += ", positions in the cache";
  if (keys.logn_bases.size() > 1 && a.logn_base > 0) name += fmt::format(", log-n {}", a.logn_base);
  return name;
}

void name_all(std::vector<Series>& series, const SeriesKeys& keys, const std::vector<Subject>& subjects) {
  const auto differ = [&](const auto& text_of) {
    return std::any_of(series.begin(), series.end(),
                       [&](const Series& s) { return text_of(s) != text_of(series.front()); });
  };
  const bool by_position = differ([](const Series& s) { return position_name(s.position); });
  const bool by_pattern = differ([&](const Series& s) { return pattern_name(s.attention, keys); });
  for (Series& s : series) {
    Names parts;
    const std::string position = position_name(s.position), pattern = pattern_name(s.attention, keys);
    if (subjects.size() > 1) parts.push_back(subjects[s.model].name);
    // A run that is called after its positions says them already.
    const bool said = subjects.size() > 1 && subjects[s.model].name.find(position) != std::string::npos;
    if (by_position && !said) parts.push_back(position);
    s.position_part = fmt::format("{}", fmt::join(parts, ", "));
    if (by_pattern || parts.empty()) parts.push_back(pattern);
    s.name = fmt::format("{}", fmt::join(parts, ", "));
  }
}

}  // namespace

std::vector<Key> series_keys(SeriesKeys& keys) {
  PositionConfig& p = keys.position;
  p.scaling_factor = 0;
  std::vector<Key> all = {
      {"patterns", &keys.patterns, "attention patterns", "", "causal,blockwise (mlm: full; landmarks: causal)"},
      {"attention.block", &keys.blocks, "of the block patterns; several are measured one by one", "tokens",
       "the checkpoint's"},
      {"attention.window", &keys.windows, "of the window patterns, likewise", "tokens",
       "the checkpoint's, or train.length"},
      {"attention.sinks", &keys.sinks, "of the sink_window pattern, likewise", "tokens", "the checkpoint's, or 4"},
      {"attention.cache_positions", &keys.scores.cache_positions,
       "distances within the cache of sinks and window (StreamingLLM)", "true|false", "the checkpoint's"},
      {"attention.logn_base", &keys.logn_bases,
       "scores of the query at i times log(i + 1) / log(base); 0: not; several are measured one by one", "tokens",
       "the checkpoint's"},
      {"attention.logn_clip", &keys.scores.logn_clip, "that factor is at least 1", "", "the checkpoint's"},
      {"attention.temperature", &keys.scores.temperature, "what scores are divided by", "", "the checkpoint's"},
      {"attention.floor_scale", &keys.scores.floor_scale,
       "scores times 1 + attn_scale x log(1 + floor((i + 1) / floor_scale)); 0: not", "tokens", "the checkpoint's"},
      {"attention.attn_scale", &keys.scores.attn_scale, "strength of attention.floor_scale", "", "the checkpoint's"},
      Key{"attention.clamp", &keys.scores.clamp, "keys whose score is below it disappear; -1e6: none do", "",
          "the checkpoint's"}
          .between(AttentionConfig::no_clamp, 1e6),
      {"position.scaling", &keys.scalings, "rescaling of rotary angles; several are measured one by one", "",
       "the checkpoint's"},
      {"position.scaling_factor", &p.scaling_factor, "of linear, ntk, yarn and repeat", "",
       "length / original_length, at least 1; the checkpoint's for its own scaling"},
      {"position.original_length", &p.original_length, "what the factor is counted from, yarn's ramp, modulo's period",
       "tokens", "the checkpoint's: its train.length"},
      {"position.beta_fast", &p.beta_fast, "yarn: rotations above which angles are kept", "", "the checkpoint's"},
      {"position.beta_slow", &p.beta_slow, "yarn: rotations below which angles are interpolated", "",
       "the checkpoint's"}};
  for (Key& key : all) {
    if (key.name != "patterns") key = limited_as_in_a_run(key);
    if (key.name == "attention.block" || key.name == "attention.window")
      key.least = 1;  // there is no default for 0 to stand for
  }
  return all;
}

std::vector<std::string> checkpoint_names(const std::vector<std::string>& paths) {
  const auto name = [&](const std::filesystem::path& path, int detail) {
    const std::string run = path.parent_path().filename().string();
    return detail == 0 ? run : detail == 1 ? run + " " + path.filename().string() : path.string();
  };
  Names names;
  for (const std::string& path : paths) {
    int detail = 0;
    const auto alike = [&](const std::string& other) {
      return other != path && name(other, detail) == name(path, detail);
    };
    while (detail < 2 && std::any_of(paths.begin(), paths.end(), alike)) ++detail;
    names.push_back(name(path, detail));
  }
  return names;
}

std::vector<Series> plan_series(const SeriesKeys& keys, const std::vector<Subject>& subjects) {
  std::vector<Series> all;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    for (Series series : positions(keys, subjects[i].options)) {
      series.model = i;
      for (const PatternKind& pattern : patterns_of(keys, subjects[i].options)) {
        for (const AttentionConfig& attention : attentions(pattern, keys, subjects[i].options)) {
          series.attention = attention;
          all.push_back(series);
        }
      }
    }
  }
  check_effects(keys, all, subjects);
  for (const Series& series : all) {  // values that make no sense
    ModelConfig model = subjects[series.model].options.model;
    use_position(model, series.position);
    use_attention(model, series.attention);
    check(model);
    require_usage(!series.attention.pattern->halves,
                  "attention.pattern = {} is for training; evaluate its model with causal, which it is meant for",
                  series.attention.pattern->name);
    check_objective(subjects[series.model].options.train.objective, model);
  }
  name_all(all, keys, subjects);
  return all;
}

PositionConfig position_at(const Series& series, std::int64_t length) {
  PositionConfig position = series.position;
  if (series.factor_follows_length) {
    position.scaling_factor =
        std::max(1.0, static_cast<double>(length) / static_cast<double>(position.original_length));
  }
  return position;
}

std::string describe_position(const Series& series) {
  const PositionConfig& p = series.position;
  if (p.scaling == Scaling::none) return p.kind->name;
  std::string text = fmt::format("{}, {}", p.kind->name, name_of(p.scaling));
  if (series.factor_follows_length) return text + fmt::format(" by length / {}, at least 1", p.original_length);
  if (reads_factor(p.scaling)) text += fmt::format(" by {:g}", p.scaling_factor);
  else if (reads_original_length(p.scaling)) text += fmt::format(" {}", p.original_length);
  return text;
}

std::string position_name(const PositionConfig& position) {
  const std::string kind = position.kind->name;
  return position.scaling == Scaling::none ? kind : fmt::format("{} ({})", kind, name_of(position.scaling));
}

}  // namespace lexring
