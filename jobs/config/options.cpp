#include "jobs/config/options.h"

#include <algorithm>
#include <cstdio>

#include "framework/backend/cuda_backend.h"
#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/config/ini_file.h"
#include "jobs/config/key_sources.h"
#include "models/patterns.h"
#include "models/positions/position.h"

namespace lexring {
namespace {

constexpr auto most_tokens = static_cast<std::int64_t>(most_tokens_at_once);
constexpr double most_steps = 1e12, most_sequences = 1 << 20;  // their product fits 64 bits

/// Defaults that follow from other keys, unless the key itself was given.
void resolve(Options& o, const std::set<std::string>& given) {
  const auto follow = [&](const char* key, std::int64_t& value, std::int64_t default_value) {
    if (given.count(key) == 0) value = default_value;
  };
  follow("model.kv_heads", o.model.kv_heads, o.model.heads);
  follow("model.ffn_width", o.model.ffn_width, 4 * std::min<std::int64_t>(o.model.width, 1 << 28));
  follow("attention.block", o.model.attention.block, o.train.length / 2);
  follow("model.max_length", o.model.max_length, o.model.position.kind == "learned" ? o.train.length : 0);
  follow("position.original_length", o.model.position.original_length, o.train.length);
}

/// Products of sizes that are each sensible.
void check_products(const Options& o) {
  const std::int64_t at_once = o.train.micro_batch > 0 ? o.train.micro_batch : 1;
  require_usage(at_once <= most_tokens / o.train.length,
                "train.micro_batch = {} sequences of train.length = {} are more than {} tokens, which no rank computes "
                "at a time; choose fewer",
                o.train.micro_batch, o.train.length, most_tokens);
}

void check(const Options& o) {
  check_products(o);
  const PositionConfig& position = o.model.position;
  require_usage(position.scaling == "none" || position.scaling == "modulo" || position.scaling_factor != 1,
                "position.scaling = {} with position.scaling_factor = 1 changes nothing; give position.scaling_factor, "
                "the new length over the training length, e.g. 4",
                position.scaling);
  check(lr_schedule(o));
  check(adamw_hyper(o));
  require_usage(
      o.train.precision != "fp64" || o.device.name == "reference",
      "train.precision = fp64 exists on the reference device only; add --device reference, or choose fp32 or bf16");
  require_usage(o.train.precision != "bf16" || o.device.name != "reference",
                "train.precision = bf16 does not exist on the reference device; choose fp32 or fp64, or --device cpu");
  require_usage(o.train.residual == "f32" || o.train.precision == "bf16",
                "train.residual = bf16 needs train.precision = bf16, not {}; leave it at f32", o.train.precision);
}

}  // namespace

KeyTable option_keys(Options& o) {
  KeyTable table;
  const auto key = [&](std::string name, KeyTarget target, std::string meaning, std::string unit = "",
                       std::string default_text = "") -> Key& {
    return table.add(Key{std::move(name), target, std::move(meaning), std::move(unit), std::move(default_text)});
  };
  const auto choice = [&](std::string name, std::string* target, std::string meaning,
                          std::vector<std::string> choices) -> Key& {
    return table.add(Key{std::move(name), target, std::move(meaning), "", "", std::move(choices)});
  };
  table.add(device_keys(o.device));
  key("resume", &o.resume,
      "auto: the newest checkpoint of the run, if any; none: start anew; or the path of a checkpoint");
  key("init", &o.init, "begin a new run with the weights of this checkpoint, and its model where no key says otherwise",
      "directory");

  key("data.train", &o.data.train, "dataset to train on, made by `lexring prepare`", "file");
  key("data.valid", &o.data.valid, "dataset for the validation loss", "file");
  choice("data.documents", &o.data.documents, "mask hides other documents of a window, ignore does not",
         {"mask", "ignore"});

  auto& t = o.train;
  key("train.length", &t.length, "sequence length", "tokens").between(1, most_tokens);
  key("train.batch", &t.batch, "sequences per step, over all ranks", "sequences").between(1, most_sequences);
  key("train.micro_batch", &t.micro_batch, "sequences that one replica computes at a time", "sequences",
      "all of the replica's")
      .between(0, most_sequences);
  key("train.steps", &t.steps, "optimizer steps", "steps").between(1, most_steps).only_with("train.minutes", {"0"});
  key("train.minutes", &t.minutes, "> 0: choose train.steps from the speed of the first 20 steps to last this long",
      "minutes")
      .between(0, 366 * 24 * 60);
  key("train.seed", &t.seed, "seed of initial values and data order");
  choice("train.precision", &t.precision,
         "working precision of matrix products and activations; auto: bf16 where this machine multiplies it faster "
         "than f32, else fp32; tf32: fp32 with products in TF32 on a GPU",
         {"auto", "bf16", "tf32", "fp32", "fp64"});
  choice("train.residual", &t.residual, "dtype of the residual stream", {"f32", "bf16"});
  choice("train.recompute", &t.recompute,
         "what backward computes again instead of keeping it; attention: norm, projections and attention, not the "
         "feed-forward half; block: all but a block's input",
         {"none", "attention", "block"});
  key("train.valid_every", &t.valid_every, "steps between validations; 0: only at the end", "steps")
      .between(0, most_steps);
  key("train.valid_windows", &t.valid_windows, "windows of train.length tokens in a validation", "windows")
      .between(1, 1e9);

  auto& p = o.optimizer;
  key("optimizer.lr", &p.lr, "largest learning rate").at_least(0);
  key("optimizer.beta1", &p.beta1, "decay of the first moment").between(0, 1);
  key("optimizer.beta2", &p.beta2, "decay of the second moment").between(0, 1);
  key("optimizer.eps", &p.eps, "added to the root of the second moment").between(0, 1);
  key("optimizer.warmup", &p.warmup, "steps of linear warm-up", "steps").between(0, most_steps);
  choice("optimizer.schedule", &p.schedule, "learning rate after the warm-up",
         {"constant", "cosine", "linear", "polynomial"});
  key("optimizer.final_fraction", &p.final_fraction, "learning rate at the last step, as a fraction of optimizer.lr")
      .between(0, 1)
      .only_with("optimizer.schedule", {"cosine", "linear", "polynomial"});
  key("optimizer.power", &p.power, "exponent of the schedule")
      .between(0, 1000)
      .only_with("optimizer.schedule", {"polynomial"});
  key("optimizer.weight_decay", &p.weight_decay, "decoupled decay of matrices").between(0, 1e6);
  key("optimizer.clip", &p.clip, "largest global norm of the gradient; 0: no clipping").between(0, 1e30);

  choice("optimizer.shard", &p.shard,
         "what each replica keeps only its part of: the moments (ZeRO-1), or the summed gradients too (ZeRO-2)",
         {"none", "state", "gradients"});

  table.add(mesh_keys(o.mesh));
  table.add(sequence_keys(o.sequence));

  key("checkpoint.directory", &o.checkpoint.directory, "the run's directory: config.ini, metrics.jsonl, step-*/",
      "directory");
  key("checkpoint.every", &o.checkpoint.every, "steps between checkpoints; 0: at the end only", "steps")
      .between(0, most_steps);
  key("checkpoint.keep", &o.checkpoint.keep, "newest checkpoints that stay; 0: all", "checkpoints").between(0, 1e9);

  key("watchdog.seconds", &o.watchdog_seconds, "a run ends when a rank waited so long for another; 0: never", "seconds")
      .between(0, 366 * 24 * 3600);

  auto& m = o.model;
  key("model.vocab", &m.vocab, "vocabulary", "tokens", "the dataset's").at_least(0);
  key("model.layers", &m.layers, "layers").at_least(1);
  key("model.width", &m.width, "width of the residual stream", "channels").at_least(1);
  key("model.heads", &m.heads, "query heads; must divide model.width").at_least(1);
  key("model.kv_heads", &m.kv_heads, "key and value heads; must divide model.heads", "", "model.heads").at_least(1);
  choice("model.ffn", &m.ffn, "feed-forward block", {"gelu", "swiglu"});
  key("model.ffn_width", &m.ffn_width, "inner width of the feed-forward block", "channels", "4 x model.width")
      .at_least(1);
  choice("model.norm", &m.norm, "normalisation", {"layernorm", "rmsnorm"});
  key("model.norm_eps", &m.norm_eps, "added to the variance").between(0, 1);
  key("model.bias", &m.bias, "biases on every linear layer but the output projection", "true|false");
  key("model.sub_norm", &m.sub_norm, "one more norm before the attention output and the last feed-forward matrix",
      "true|false");
  key("model.tied", &m.tied, "output projection = token embedding", "true|false");
  key("model.max_length", &m.max_length, "rows of the learned position table", "tokens", "train.length")
      .at_least(0)
      .only_with("position.kind", {"learned"});

  auto& s = m.position;
  choice("position.kind", &s.kind, "how the model knows where a token stands", position_kinds());
  key("position.theta", &s.theta, "rotary base").between(0, 1e15).only_with("position.kind", rotary_position_kinds());
  key("position.gamma", &s.gamma, "zeta_i = (2i/E + gamma) / (1 + gamma)")
      .between(0, 1e6)
      .only_with("position.kind", {"xpos"});
  key("position.scale_base", &s.scale_base, "distance over which scores decay by zeta", "tokens")
      .between(1, 1e12)
      .only_with("position.kind", {"xpos"});
  key("position.buckets", &s.buckets, "half for single distances, half for ranges that grow")
      .between(2, 1 << 20)
      .only_with("position.kind", {"t5"});
  key("position.max_distance", &s.max_distance, "distance from which all keys share a bucket", "tokens")
      .between(1, most_tokens)
      .only_with("position.kind", {"t5"});
  choice("position.scaling", &s.scaling, "rescaling of rotary angles",
         {"none", "linear", "ntk", "yarn", "modulo", "repeat"})
      .only_with("position.kind", rotary_position_kinds());
  key("position.scaling_factor", &s.scaling_factor, "new length / training length")
      .between(1e-3, 1e6)
      .only_with("position.scaling", {"linear", "ntk", "yarn", "repeat"});
  key("position.original_length", &s.original_length, "yarn's ramp, modulo's period", "tokens", "train.length")
      .between(0, most_tokens)
      .only_with("position.scaling", {"yarn", "modulo"});
  key("position.beta_fast", &s.beta_fast, "rotations above which angles are kept")
      .between(0, 1e6)
      .only_with("position.scaling", {"yarn"});
  key("position.beta_slow", &s.beta_slow, "rotations below which angles are interpolated")
      .between(0, 1e6)
      .only_with("position.scaling", {"yarn"});

  auto& a = m.attention;
  choice("attention.pattern", &a.pattern, "which keys a query sees", pattern_names());
  key("attention.window", &a.window, "keys a query sees, itself included", "tokens")
      .between(0, most_tokens)
      .only_with("attention.pattern", {"window", "sink_window"});
  key("attention.block", &a.block, "own block causally and the whole previous block", "tokens", "train.length / 2")
      .between(0, most_tokens)
      .only_with("attention.pattern", {"blockwise"});
  key("attention.sinks", &a.sinks, "first tokens that stay visible", "tokens")
      .between(0, most_tokens)
      .only_with("attention.pattern", {"sink_window"});
  return table;
}

Key limited_as_in_a_run(Key key) {
  Options options;
  const KeyTable table = option_keys(options);
  const Key* const own = table.find(key.name);
  require(own != nullptr, "a run has no key {}", key.name);
  key.least = own->least;
  key.most = own->most;
  return key;
}

namespace {

/// Keys that have no effect get their defaults back, as to_ini, which leaves them out, has them.
void forget_without_effect(const KeyTable& table, Options defaults, std::set<std::string>& given) {
  const KeyTable fresh = option_keys(defaults);
  for (const Key& key : table.keys()) {
    if (table.has_effect(key)) continue;
    assign(key, {text_of(fresh.find(key.name)->target)}, "");
    given.erase(key.name);
  }
}

/// A length that rotary angles are rescaled from is that of the training which made the weights.
ModelConfig model_to_begin_with(const Options& begin) {
  ModelConfig model = begin.model;
  if (model.position.scaling == "none") model.position.original_length = begin.train.length;
  return model;
}

/// The keys whose values a model to begin with gives. A block that it does not use follows from the length as ever.
std::set<std::string> given_by(const Options& begin) {
  Options copy = begin;
  std::set<std::string> names;
  const KeyTable table = option_keys(copy);
  for (const Key& key : table.keys()) {
    const std::string section = key.name.substr(0, key.name.find('.'));
    if (section == "model" || section == "position" || section == "attention") names.insert(key.name);
  }
  if (begin.model.attention.pattern != "blockwise") names.erase("attention.block");
  if (begin.model.position.kind != "learned") names.erase("model.max_length");
  return names;
}

}  // namespace

OptionTexts read_option_texts(const std::vector<std::string>& args, const std::vector<Key>& extra) {
  Options scratch;
  std::vector<std::string> files;
  KeyTable table = option_keys(scratch);
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
  std::vector<std::string> files;
  const KeyTable in_files = option_keys(options);
  KeyTable table = in_files;
  table.add(extra);
  table.add(Key{"config", &files, "", ""});
  KeySources sources(in_files);
  const auto add = [&](const std::set<std::string>& given, const KeySources::Origin& origin) {
    if (given.count("train.steps") != 0 && given.count("train.minutes") == 0)
      options.train.minutes = 0;  // they take its place
    sources.add(given, origin);
  };
  for (const auto& file : texts.files) {
    const std::vector<IniEntry> entries = ini_entries(file.second, file.first);
    add(in_files.parse_ini(file.second, file.first),
        [&](const std::string& name) { return origin_in_ini(entries, file.first, name); });
  }
  add(table.parse_arguments(texts.args), [](const std::string&) { return ""; });
  sources.refuse_without_effect();
  std::set<std::string> given = sources.given();
  if (begin != nullptr) given.merge(given_by(*begin));
  forget_without_effect(in_files, defaults, given);
  resolve(options, given);
  check(options);
  return options;
}

Options parse_options(const std::vector<std::string>& args, const std::vector<Key>& extra, const Options& defaults) {
  return parse_options(read_option_texts(args, extra), extra, defaults, nullptr);
}

Options peek_options(const OptionTexts& texts) {
  Options options;
  std::vector<std::string> files;
  const KeyTable in_files = option_keys(options);
  KeyTable table = in_files;
  table.add(Key{"config", &files, "", ""});
  for (const auto& [file, text] : texts.files) in_files.parse_ini(text, file);
  table.parse_arguments(texts.args);
  return options;
}

Options parse_ini_text(const std::string& text, const std::string& source) {
  Options options;
  KeyTable table = option_keys(options);
  std::string ignored;  // keys of the first versions, which could only be refused
  for (const char* key : {"position.bar_d", "attention.logn_base", "attention.normalizer", "attention.relu_gamma"}) {
    table.add(Key{key, &ignored, ""});
  }
  const auto given = table.parse_ini(text, source);
  resolve(options, given);
  return options;
}

WorkShape work_shape(const Options& o, int ranks) {
  const std::int64_t replicas = std::max<std::int64_t>(ranks / o.mesh.cp / o.mesh.tp, 1);
  const std::int64_t sequences =
      o.train.micro_batch > 0 ? o.train.micro_batch : std::max<std::int64_t>(o.train.batch / replicas, 1);
  const std::string& precision = o.train.precision;
  return {sequences, o.train.length, precision == "fp64" ? 8 : precision == "bf16" ? 2 : 4};
}

std::string to_ini(const Options& options) {
  Options copy = options;
  return option_keys(copy).to_ini();
}

Precision precision_of(const std::string& name) {
  if (name == "fp64") return Precision::fp64;
  if (name == "fp32" || name == "tf32") return Precision::fp32;
  require_usage(name == "bf16", "precision '{}' is not known; choose bf16, tf32, fp32 or fp64", name);
  return Precision::bf16;
}

ModelRuntime runtime_of(const Options& options) {
  ModelRuntime runtime;
  runtime.precision = precision_of(options.train.precision);
  runtime.residual = runtime.precision == Precision::fp64 ? Dtype::f64
                     : options.train.residual == "bf16"   ? Dtype::bf16
                                                          : Dtype::f32;
  runtime.recompute = options.train.recompute == "block"       ? Recompute::block
                      : options.train.recompute == "attention" ? Recompute::attention
                                                               : Recompute::none;
  runtime.partition = partition_named(options.sequence.partition);
  runtime.exchange = exchange_named(options.sequence.exchange);
  return runtime;
}

Shard shard_of(const Options& options) {
  const std::string& name = options.optimizer.shard;
  return name == "none" ? Shard::none : name == "state" ? Shard::state : Shard::gradients;
}

ModelRuntime training_runtime(const Options& options, const Context& context) {
  ModelRuntime runtime = runtime_of(options);
  runtime.held = held_by_model(shard_of(options), context.replicas().size());
  return runtime;
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
