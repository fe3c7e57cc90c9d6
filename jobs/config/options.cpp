#include "jobs/config/options.h"

#include <algorithm>
#include <cstdio>

#include "framework/backend/cuda_backend.h"
#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/config/ini_file.h"
#include "jobs/config/key_sources.h"
#include "jobs/config/layer_keys.h"
#include "models/parameter_plan.h"

namespace lexring {
namespace {

/// Defaults that follow from other keys, unless the key itself was given.
void resolve(Options& o, const std::set<std::string>& given) {
  const auto follow = [&](const char* key, std::int64_t& value, std::int64_t default_value) {
    if (given.count(key) == 0) value = default_value;
  };
  follow("model.kv_heads", o.model.kv_heads, o.model.heads);
  follow("model.ffn_width", o.model.ffn_width, 4 * std::min<std::int64_t>(o.model.width, 1 << 28));
  follow("attention.block", o.model.attention.block, o.train.length / 2);
  follow("model.max_length", o.model.max_length, o.model.position.kind->bounded ? o.sampling.reach(o.train.length) : 0);
  follow("position.original_length", o.model.position.original_length, o.train.length);
}

/// Products of sizes that are each sensible.
void check_products(const Options& o) {
  constexpr auto most_tokens = static_cast<std::int64_t>(most_tokens_at_once);
  const std::int64_t at_once = o.train.micro_batch > 0 ? o.train.micro_batch : 1;
  require_usage(at_once <= most_tokens / o.train.length,
                "train.micro_batch = {} sequences of train.length = {} are more than {} tokens, which no rank computes "
                "at a time; choose fewer",
                o.train.micro_batch, o.train.length, most_tokens);
}

void check(const Options& o) {
  check_products(o);
  const PositionConfig& position = o.model.position;
  require_usage(!needs_factor(position.scaling) || position.scaling_factor != 1,
                "position.scaling = {} with position.scaling_factor = 1 changes nothing; give position.scaling_factor, "
                "the new length over the training length, e.g. 4",
                name_of(position.scaling));
  require_usage(
      o.model.attention.clamp == AttentionConfig::no_clamp,
      "attention.clamp = {} lets keys disappear, and training would not learn from that; train without it, and "
      "give it to evaluate or generate",
      o.model.attention.clamp);
  check_objective(o.train.objective, o.model);
  if (o.train.objective == Objective::mlm) check(o.mlm);
  require_usage(o.train.objective == Objective::causal || o.data.end_of_document == EndOfDocument::token,
                "data.end_of_document = none leaves out what comes next, but train.objective = mlm hides any token; "
                "leave it at token");
  check(o.sampling, o.train.length);
  check(o.sampling, o.model);
  require_usage(o.train.spike != SpikeChoice::rollback || o.checkpoint.every > 0,
                "train.spike = rollback goes back to a checkpoint, but checkpoint.every = 0 saves none before the end; "
                "give checkpoint.every, or choose train.spike = skip");
  check(lr_schedule(o));
  check(adamw_hyper(o));
  const PrecisionChoice precision = o.train.precision;
  const bool reference = o.device.device == DeviceChoice::reference;
  require_usage(
      precision != PrecisionChoice::fp64 || reference,
      "train.precision = fp64 exists on the reference device only; add --device reference, or choose fp32 or bf16");
  require_usage(precision != PrecisionChoice::bf16 || !reference,
                "train.precision = bf16 does not exist on the reference device; choose fp32 or fp64, or --device cpu");
  require_usage(o.train.residual == ResidualChoice::fp32 || precision == PrecisionChoice::bf16,
                "train.residual = bf16 needs train.precision = bf16, not {}; leave it at fp32", name_of(precision));
}

/// Keys that have no effect get their defaults back, as to_ini, which leaves them out, has them.
void forget_without_effect(const KeyTable& table, Options defaults, std::set<std::string>& given) {
  const KeyTable fresh = option_keys(defaults);
  for (const Key& key : table.keys()) {
    if (table.has_effect(key)) continue;
    copy_value(fresh.find(key.name)->target, key.target);
    given.erase(key.name);
  }
}

/// A length that rotary angles are rescaled from is that of the training which made the weights.
ModelConfig model_to_begin_with(const Options& begin) {
  ModelConfig model = begin.model;
  if (model.position.scaling == Scaling::none) model.position.original_length = begin.train.length;
  return model;
}

/// The keys whose values a model to begin with gives. A block that it does not use follows from the length as ever.
std::set<std::string> given_by(const Options& begin) {
  ModelConfig model = begin.model;
  std::set<std::string> names;
  for (const Key& key : model_keys(model)) names.insert(key.name);
  if (!begin.model.attention.pattern->block) names.erase("attention.block");
  if (!begin.model.position.kind->bounded) names.erase("model.max_length");
  return names;
}

}  // namespace

OptionTexts read_option_texts(const std::vector<std::string>& args, const std::vector<Key>& extra) {
  Options scratch;
  std::vector<std::string> files;
  KeyTable table = option_keys(scratch);
  LayerSettings layers;
  layers.read_with(table);
  table.add(extra);
  table.add(Key{"config", &files, "INI files with keys; later ones win", "files"});
  table.parse_arguments(args);  // only for --config and for errors on the command line, which then wins over the files
  OptionTexts texts{args, {}};
  for (const std::string& file : files) texts.files.emplace_back(file, read_ini_file(file));
  return texts;
}

Options parse_options(const OptionTexts& texts, const std::vector<Key>& extra, const Options& defaults,
                      const Options* begin) {
  Options options = defaults;
  if (begin != nullptr) options.model = model_to_begin_with(*begin);
  LayerSettings layers(options.model);
  options.model.override.clear();
  std::size_t seen = layers.size();
  std::map<std::size_t, std::string> idle;  // settings of layers without effect where they are given
  std::vector<std::string> files;
  KeyTable in_files = option_keys(options);
  layers.read_with(in_files);
  KeyTable table = in_files;
  table.add(extra);
  table.add(Key{"config", &files, "", ""});
  KeySources sources(in_files);
  const auto add = [&](const std::set<std::string>& given, const KeySources::Origin& origin) {
    if (given.count("train.steps") != 0 && given.count("train.minutes") == 0)
      options.train.minutes = 0;  // they take its place
    sources.add(given, origin);
    const std::size_t earlier = std::exchange(seen, layers.size());
    for (const auto& [setting, why] : layers.without_effect(options.model))
      if (setting >= earlier) idle[setting] = why;
  };
  for (const auto& file : texts.files) {
    const std::vector<IniEntry> entries = ini_entries(file.second, file.first);
    add(in_files.parse_ini(file.second, file.first),
        [&](const std::string& name) { return origin_in_ini(entries, file.first, name); });
  }
  add(table.parse_arguments(texts.args), [](const std::string&) { return ""; });
  sources.refuse_without_effect();
  for (const auto& [setting, why] : layers.without_effect(options.model))
    require_usage(idle.count(setting) == 0, "{}", why);
  std::set<std::string> given = sources.given();
  if (begin != nullptr) given.merge(given_by(*begin));
  forget_without_effect(in_files, defaults, given);
  resolve(options, given);
  layers.apply(options.model);
  check(options);
  return options;
}

Options parse_options(const std::vector<std::string>& args, const std::vector<Key>& extra, const Options& defaults) {
  return parse_options(read_option_texts(args, extra), extra, defaults, nullptr);
}

Options peek_options(const OptionTexts& texts, const std::vector<Key>& extra) {
  Options options;
  std::vector<std::string> files;
  LayerSettings layers;
  KeyTable in_files = option_keys(options);
  layers.read_with(in_files);
  KeyTable table = in_files;
  table.add(extra);
  table.add(Key{"config", &files, "", ""});
  for (const auto& [file, text] : texts.files) in_files.parse_ini(text, file);
  table.parse_arguments(texts.args);
  return options;
}

Options parse_ini_text(const std::string& text, const std::string& source) {
  Options options;
  KeyTable table = option_keys(options);
  LayerSettings layers;
  layers.read_with(table);
  const auto given = table.parse_ini(text, source);
  resolve(options, given);
  layers.apply(options.model);
  return options;
}

WorkShape work_shape(const Options& o, int ranks) {
  const std::int64_t replicas = std::max<std::int64_t>(ranks / o.mesh.cp / o.mesh.tp, 1);
  const std::int64_t sequences =
      o.train.micro_batch > 0 ? o.train.micro_batch : std::max<std::int64_t>(o.train.batch / replicas, 1);
  const PrecisionChoice precision = o.train.precision;
  return {sequences, o.train.length,
          precision == PrecisionChoice::fp64   ? 8
          : precision == PrecisionChoice::bf16 ? 2
                                               : 4};
}

std::string to_ini(const Options& options) {
  Options copy = options;
  return option_keys(copy).to_ini() + LayerSettings(options.model).to_ini();
}

Precision precision_of(PrecisionChoice choice) {
  switch (choice) {
    case PrecisionChoice::fp64:
      return Precision::fp64;
    case PrecisionChoice::fp32:
    case PrecisionChoice::tf32:
      return Precision::fp32;
    case PrecisionChoice::bf16:
      return Precision::bf16;
    case PrecisionChoice::automatic:
      break;
  }
  fail("the precision is not chosen yet");
}

ModelRuntime runtime_of(const Options& options) {
  ModelRuntime runtime;
  runtime.precision = precision_of(options.train.precision);
  runtime.residual = runtime.precision == Precision::fp64             ? Dtype::f64
                     : options.train.residual == ResidualChoice::bf16 ? Dtype::bf16
                                                                      : Dtype::f32;
  runtime.recompute = options.train.recompute.value_or(Recompute::layer);
  runtime.frozen = parts_of_names(options.train.frozen);
  runtime.partition = options.sequence.partition;
  runtime.exchange = options.sequence.exchange;
  return runtime;
}

void use_precision(Options& options, PrecisionChoice precision) {
  options.train.precision = precision;
  if (precision != PrecisionChoice::bf16) options.train.residual = ResidualChoice::fp32;
}

std::optional<Masking> masking_of(const Options& options) {
  if (options.train.objective == Objective::causal) return std::nullopt;
  return Masking{options.mlm, options.model.vocab};
}

void check_objective(Objective objective, const ModelConfig& model) {
  if (objective == Objective::causal) {
    require_usage(!model.sees_later(),
                  "attention.pattern = full shows a token the next one, which it is to predict (train.objective = "
                  "causal); choose a causal pattern, or train.objective = mlm");
  } else {
    require_usage(model.sees_later(),
                  "train.objective = mlm hides tokens that the text on both sides tells, but attention.pattern = {} "
                  "shows nothing after a token; choose attention.pattern = full",
                  model.attention.pattern->name);
    require_usage(landmark_every_of(model) == 0,
                  "train.objective = mlm hides tokens that the text on both sides tells, but attention.normalizer = "
                  "landmark meets only the blocks before a token; choose another attention.normalizer");
  }
}

LrSchedule lr_schedule(const Options& options) {
  const auto& o = options.optimizer;
  return LrSchedule{.lr = o.lr,
                    .warmup = o.warmup,
                    .steps = options.train.steps,
                    .decay = o.schedule,
                    .power = o.power,
                    .final_fraction = o.final_fraction};
}

AdamWHyper adamw_hyper(const Options& options) {
  const auto& o = options.optimizer;
  return AdamWHyper{.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .weight_decay = o.weight_decay};
}

}  // namespace lexring
