#include "jobs/options.h"

#include <algorithm>
#include <cstdio>

#include "framework/backend/cuda_backend.h"
#include "framework/base/error.h"

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
  follow("model.max_length", o.model.max_length, o.model.position.kind == "learned" ? o.train.length : 0);
  follow("position.original_length", o.model.position.original_length, o.train.length);
}

void at_least(const char* key, std::int64_t value, std::int64_t least) {
  require_usage(value >= least, "{} = {} is impossible; give at least {}", key, value, least);
}

void check(const Options& o) {
  at_least("train.length", o.train.length, 1);
  at_least("train.batch", o.train.batch, 1);
  at_least("train.micro_batch", o.train.micro_batch, 0);
  at_least("train.steps", o.train.steps, 1);
  at_least("train.valid_every", o.train.valid_every, 0);
  at_least("train.valid_windows", o.train.valid_windows, 1);
  at_least("checkpoint.every", o.checkpoint.every, 0);
  at_least("checkpoint.keep", o.checkpoint.keep, 0);
  at_least("mesh.dp", o.mesh.dp, 0);
  at_least("mesh.cp", o.mesh.cp, 1);
  at_least("mesh.tp", o.mesh.tp, 1);
  at_least("mesh.ulysses", o.mesh.ulysses, 0);
  at_least("watchdog.seconds", o.watchdog_seconds, 0);
  require_usage(o.train.minutes >= 0, "train.minutes = {} is impossible; give 0 (use train.steps) or more", o.train.minutes);
  require_usage(o.optimizer.clip >= 0, "optimizer.clip = {} is impossible; give 0 (off) or more", o.optimizer.clip);
  check(lr_schedule(o));
  check(adamw_hyper(o));
  require_usage(o.train.precision != "fp64" || o.device.name == "reference",
                "train.precision = fp64 exists on the reference device only; add --device reference, or choose fp32 or bf16");
  require_usage(o.train.precision != "bf16" || o.device.name != "reference",
                "train.precision = bf16 does not exist on the reference device; choose fp32 or fp64, or --device cpu");
  require_usage(o.train.residual == "f32" || o.train.precision == "bf16",
                "train.residual = bf16 needs train.precision = bf16, not {}; leave it at f32", o.train.precision);
}

}  // namespace

KeyTable option_keys(Options& o) {
  KeyTable table;
  const auto key = [&](std::string name, KeyTarget target, std::string meaning, std::string unit = "", std::string default_text = "") {
    table.add(Key{std::move(name), target, std::move(meaning), std::move(unit), std::move(default_text)});
  };
  const auto choice = [&](std::string name, std::string* target, std::string meaning, std::vector<std::string> choices) {
    table.add(Key{std::move(name), target, std::move(meaning), "", "", std::move(choices)});
  };
  table.add(device_keys(o.device));
  key("resume", &o.resume, "auto: the newest checkpoint of the run, if any; none: start anew; or the path of a checkpoint");

  key("data.train", &o.data.train, "dataset to train on, made by `lexring prepare`", "file");
  key("data.valid", &o.data.valid, "dataset for the validation loss", "file");
  choice("data.documents", &o.data.documents, "mask hides other documents of a window, ignore does not", {"mask", "ignore"});

  auto& t = o.train;
  key("train.length", &t.length, "sequence length", "tokens");
  key("train.batch", &t.batch, "sequences per step, over all ranks", "sequences");
  key("train.micro_batch", &t.micro_batch, "sequences that one replica computes at a time", "sequences", "all of the replica's");
  key("train.steps", &t.steps, "optimizer steps", "steps");
  key("train.minutes", &t.minutes, "> 0: choose train.steps from the speed of the first 20 steps to last this long", "minutes");
  key("train.seed", &t.seed, "seed of initial values and data order");
  choice("train.precision", &t.precision, "working precision of matrix products and activations; auto: bf16 where this machine multiplies it faster than f32, else fp32; tf32: fp32 "
         "with products in TF32 on a GPU",
         {"auto", "bf16", "tf32", "fp32", "fp64"});
  choice("train.residual", &t.residual, "dtype of the residual stream", {"f32", "bf16"});
  choice(
      "train.recompute", &t.recompute,
      "what backward computes again instead of keeping it; attention: norm, projections and attention, not the feed-forward half; block: "
      "all but a block's input",
      {"none", "attention", "block"});
  key("train.valid_every", &t.valid_every, "steps between validations; 0: only at the end", "steps");
  key("train.valid_windows", &t.valid_windows, "windows of train.length tokens in a validation", "windows");

  auto& p = o.optimizer;
  key("optimizer.lr", &p.lr, "largest learning rate");
  key("optimizer.beta1", &p.beta1, "decay of the first moment");
  key("optimizer.beta2", &p.beta2, "decay of the second moment");
  key("optimizer.eps", &p.eps, "added to the root of the second moment");
  key("optimizer.warmup", &p.warmup, "steps of linear warm-up", "steps");
  choice("optimizer.schedule", &p.schedule, "learning rate after the warm-up", {"constant", "cosine", "linear", "polynomial"});
  key("optimizer.final_fraction", &p.final_fraction, "learning rate at the last step, as a fraction of optimizer.lr");
  key("optimizer.power", &p.power, "exponent of the polynomial schedule");
  key("optimizer.weight_decay", &p.weight_decay, "decoupled decay of matrices");
  key("optimizer.clip", &p.clip, "largest global norm of the gradient; 0: no clipping");

  choice("optimizer.shard", &p.shard,
         "what each replica keeps only its part of: the moments (ZeRO-1), or the summed gradients too (ZeRO-2)",
         {"none", "state", "gradients"});

  table.add(mesh_keys(o.mesh));
  table.add(sequence_keys(o.sequence));

  key("checkpoint.directory", &o.checkpoint.directory, "the run's directory: config.ini, metrics.jsonl, step-*/", "directory");
  key("checkpoint.every", &o.checkpoint.every, "steps between checkpoints; 0: at the end only", "steps");
  key("checkpoint.keep", &o.checkpoint.keep, "newest checkpoints that stay; 0: all", "checkpoints");

  key("watchdog.seconds", &o.watchdog_seconds, "a run ends when a rank waited so long for another; 0: never", "seconds");

  auto& m = o.model;
  key("model.vocab", &m.vocab, "vocabulary", "tokens", "the dataset's");
  key("model.layers", &m.layers, "layers");
  key("model.width", &m.width, "width of the residual stream", "channels");
  key("model.heads", &m.heads, "query heads; must divide model.width");
  key("model.kv_heads", &m.kv_heads, "key and value heads; must divide model.heads", "", "model.heads");
  choice("model.ffn", &m.ffn, "feed-forward block", {"gelu", "swiglu"});
  key("model.ffn_width", &m.ffn_width, "inner width of the feed-forward block", "channels", "4 x model.width");
  choice("model.norm", &m.norm, "normalisation", {"layernorm", "rmsnorm"});
  key("model.norm_eps", &m.norm_eps, "added to the variance");
  key("model.bias", &m.bias, "biases on every linear layer but the output projection", "true|false");
  key("model.sub_norm", &m.sub_norm, "one more norm before the attention output and the last feed-forward matrix", "true|false");
  key("model.tied", &m.tied, "output projection = token embedding", "true|false");
  key("model.max_length", &m.max_length, "rows of the learned position table", "tokens", "train.length with learned positions");

  auto& s = m.position;
  choice("position.kind", &s.kind, "how the model knows where a token stands",
         {"none", "sinusoidal", "learned", "rope", "xpos", "alibi", "t5", "sandwich", "kerple_log", "kerple_power"});
  key("position.theta", &s.theta, "rotary base");
  key("position.gamma", &s.gamma, "xpos: zeta_i = (2i/E + gamma) / (1 + gamma)");
  key("position.scale_base", &s.scale_base, "xpos: distance over which scores decay by zeta", "tokens");
  choice("position.scaling", &s.scaling, "rescaling of rotary angles", {"none", "linear", "ntk", "yarn", "modulo", "repeat"});
  key("position.scaling_factor", &s.scaling_factor, "linear, ntk, yarn, repeat: new length / training length");
  key("position.original_length", &s.original_length, "yarn's ramp, modulo's period", "tokens", "train.length");
  key("position.beta_fast", &s.beta_fast, "yarn: rotations above which angles are kept");
  key("position.beta_slow", &s.beta_slow, "yarn: rotations below which angles are interpolated");
  key("position.buckets", &s.buckets, "t5: buckets");
  key("position.max_distance", &s.max_distance, "t5: distance of the last bucket", "tokens");
  key("position.bar_d", &s.bar_d, "sandwich: width of its sinusoids", "channels");

  auto& a = m.attention;
  choice("attention.pattern", &a.pattern, "which keys a query sees", {"causal", "window", "blockwise", "sink_window"});
  key("attention.window", &a.window, "window, sink_window: keys a query sees, itself included", "tokens");
  key("attention.block", &a.block, "blockwise: own block causally and the whole previous block", "tokens", "train.length / 2");
  key("attention.sinks", &a.sinks, "sink_window: first tokens that stay visible", "tokens");
  key("attention.logn_base", &a.logn_base, "log-n scaling of scores; 0: off", "tokens");
  choice("attention.normalizer", &a.normalizer, "how scores become weights", {"softmax", "relu"});
  key("attention.relu_gamma", &a.relu_gamma, "relu: weights are divided by gamma sqrt(n / 2)");
  return table;
}

Options parse_options(const std::vector<std::string>& args, const std::vector<Key>& extra, const Options& defaults) {
  Options options = defaults;
  std::vector<std::string> files;
  KeyTable table = option_keys(options);
  const KeyTable in_files = table;
  table.add(extra);
  table.add(Key{"config", &files, "INI files with keys; later ones win", "files"});
  std::set<std::string> given;
  {  // A first pass only for --config and for errors on the command line, which then wins over the files.
    Options scratch = options;
    KeyTable first = option_keys(scratch);
    first.add(extra);
    first.add(Key{"config", &files, "", ""});
    first.parse_arguments(args);
  }
  for (const std::string& file : files) given.merge(in_files.parse_ini(read_ini_file(file), file));
  given.merge(table.parse_arguments(args));
  resolve(options, given);
  check(options);
  return options;
}

Options parse_ini_text(const std::string& text, const std::string& source) {
  Options options;
  const auto given = option_keys(options).parse_ini(text, source);
  resolve(options, given);
  return options;
}

WorkShape work_shape(const Options& o, int ranks) {
  const std::int64_t replicas = std::max<std::int64_t>(ranks / o.mesh.cp / o.mesh.tp, 1);
  const std::int64_t sequences = o.train.micro_batch > 0 ? o.train.micro_batch : std::max<std::int64_t>(o.train.batch / replicas, 1);
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
  runtime.residual = runtime.precision == Precision::fp64 ? Dtype::f64 : options.train.residual == "bf16" ? Dtype::bf16 : Dtype::f32;
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

std::unique_ptr<Backend> make_backend(const std::string& device, const std::string& precision, int local_rank, std::optional<CpuLevel> level) {
  const auto make_cpu = [&] { return level ? make_cpu_backend(*level) : make_cpu_backend(); };
  if (device == "reference") return make_reference_backend();
  if (device == "cpu") return make_cpu();
  require_usage(device == "auto" || device == "cuda", "device = '{}' is not known; choose auto, reference, cpu or cuda", device);
  const int devices = cuda_device_count();
  if (devices > 0) return make_cuda_backend(local_rank % devices, precision == "tf32" ? F32Products::tf32 : F32Products::full);
  if (device == "cuda") return make_cuda_backend(0);  // says why there is none
  if (cuda_is_built_in() && local_rank == 0) fmt::print(stderr, "built with CUDA, no device found: using cpu\n");
  return make_cpu();
}

}  // namespace lexring
