#include "framework/base/error.h"
#include "jobs/config/options.h"

namespace lexring {
namespace {

constexpr double most_steps = 1e12, most_sequences = 1 << 20;  // their product fits 64 bits

}  // namespace

KeyTable option_keys(Options& o) {
  KeyTable table;
  const auto key = [&](std::string name, KeyTarget target, std::string meaning, std::string unit = "",
                       std::string default_text = "") -> Key& {
    return table.add(
        Key{std::move(name), std::move(target), std::move(meaning), std::move(unit), std::move(default_text)});
  };
  table.add(device_keys(o.device));
  key("resume", &o.resume,
      "auto: the newest checkpoint of the run, if any; none: start anew; or the path of a checkpoint");
  key("init", &o.init, "begin a new run with the weights of this checkpoint, and its model where no key says otherwise",
      "directory");

  key("data.train", &o.data.train, "dataset to train on, made by `lexring prepare`", "file");
  key("data.valid", &o.data.valid, "dataset for the validation loss", "file");
  key("data.documents", &o.data.documents, "mask hides other documents of a window, ignore does not");
  key("data.end_of_document", &o.data.end_of_document, "whether a document's last token, its end, counts as a target")
      .only_with("data.documents", {"mask"});

  auto& t = o.train;
  key("train.objective", &t.objective, "causal: the next token; mlm: hidden tokens, seen from both sides (BERT)");
  key("train.length", &t.length, "sequence length", "tokens").between(1, most_tokens_at_once);
  key("train.batch", &t.batch, "sequences per step, over all ranks", "sequences").between(1, most_sequences);
  key("train.micro_batch", &t.micro_batch, "sequences that one replica computes at a time", "sequences",
      "all of the replica's")
      .between(0, most_sequences);
  key("train.steps", &t.steps, "optimizer steps", "steps").between(1, most_steps).only_with("train.minutes", {"0"});
  key("train.minutes", &t.minutes, "> 0: choose train.steps from the speed of the first 20 steps to last this long",
      "minutes")
      .between(0, 366 * 24 * 60);
  key("train.seed", &t.seed, "seed of initial values and data order");
  key("train.precision", &t.precision,
      "working precision of matrix products and activations; auto: bf16 where this machine multiplies it faster than "
      "f32, else fp32; tf32: fp32 with products in TF32 on a GPU");
  key("train.residual", &t.residual, "dtype of the residual stream");
  key("train.recompute", &t.recompute,
      "what backward makes again instead of keeping it; attention: norm, query, key and value; ffn: norm and inner "
      "product; layer: both; auto: the first of none, attention, ffn and layer whose prediction fits the memory that "
      "is free; attention itself never runs twice");
  key("train.frozen", &t.frozen,
      "parameters that stay as they are, by parts of their names with commas between: embedding, norm, layers.0, "
      "attention.query, attention.key, attention.value");
  key("train.valid_every", &t.valid_every, "steps between validations; 0: only at the end", "steps")
      .between(0, most_steps);
  key("train.valid_windows", &t.valid_windows, "windows of train.length tokens in a validation", "windows")
      .between(1, 1e9);
  key("train.spike", &t.spike,
      "a step whose loss or gradient norm is far above those before it; skip: no update by it; rollback: back to the "
      "newest checkpoint, and on with other data; stop: the run ends");
  const auto spike = names_where<SpikeChoice>([](SpikeChoice choice) { return choice != SpikeChoice::ignore; });
  key("train.spike_score", &t.spike_score, "how far above their median is a spike", "standard deviations")
      .between(0, 1e9)
      .only_with("train.spike", spike);
  key("train.spike_window", &t.spike_window, "accepted steps that a step is held against", "steps")
      .between(8, 1e5)
      .only_with("train.spike", spike);
  key("train.compare_every", &t.compare_every,
      "steps between comparisons of what several ranks hold, which are made before each save too; 0: never", "steps")
      .between(0, most_steps);

  key("sampling.kind", &o.sampling.kind,
      "positions of training, drawn anew for every sequence; evaluation and validation use 0, 1, 2, ...");
  key("sampling.limit", &o.sampling.limit,
      "positions stay below it; with shape, what all positions are shifted by does", "tokens")
      .between(0, most_tokens_at_once)
      .only_with("sampling.kind", names_where<SamplingKind>([](const SamplingKind& kind) { return kind->limited; }));
  key("sampling.jump", &o.sampling.jump, "positions skip 0 to jump - 1 ahead after each landmark", "tokens")
      .between(1, most_tokens_at_once)
      .only_with("sampling.kind", {"landmark_jump"});
  const auto cape = [&](std::string name, double& value, std::string meaning, std::string unit) -> Key& {
    return key(std::move(name), &value, std::move(meaning), std::move(unit)).only_with("sampling.kind", {"cape"});
  };
  cape("sampling.global_shift", o.sampling.global_shift, "a sequence is shifted by at most this, either way", "tokens")
      .between(0, most_tokens_at_once);
  cape("sampling.local_shift", o.sampling.local_shift, "a token is shifted by at most this, either way", "tokens")
      .between(0, 0.5);
  cape("sampling.global_scale", o.sampling.global_scale,
       "positions are multiplied by at most this, and at least 1 over it", "")
      .between(1, 1e3);

  const auto mlm = [&](std::string name, double& share, std::string meaning) {
    key(std::move(name), &share, std::move(meaning)).between(0, 1).only_with("train.objective", {"mlm"});
  };
  mlm("mlm.share", o.mlm.share, "share of the tokens that are hidden: those are what the model tells");
  mlm("mlm.masked", o.mlm.masked, "share of the hidden ones that the model sees as the mask, an id after the data's");
  mlm("mlm.random", o.mlm.random, "share that it sees as a token drawn evenly; the rest it sees as they are");

  auto& p = o.optimizer;
  key("optimizer.lr", &p.lr, "largest learning rate").at_least(0);
  key("optimizer.beta1", &p.beta1, "decay of the first moment").between(0, 1);
  key("optimizer.beta2", &p.beta2, "decay of the second moment").between(0, 1);
  key("optimizer.eps", &p.eps, "added to the root of the second moment").between(0, 1);
  key("optimizer.warmup", &p.warmup, "steps of linear warm-up", "steps").between(0, most_steps);
  key("optimizer.schedule", &p.schedule, "learning rate after the warm-up");
  key("optimizer.final_fraction", &p.final_fraction, "learning rate at the last step, as a fraction of optimizer.lr")
      .between(0, 1)
      .only_with("optimizer.schedule", names_where<Decay>([](Decay decay) { return decay != Decay::constant; }));
  key("optimizer.power", &p.power, "exponent of the schedule")
      .between(0, 1000)
      .only_with("optimizer.schedule", {name_of(Decay::polynomial)});
  key("optimizer.weight_decay", &p.weight_decay, "decoupled decay of matrices").between(0, 1e6);
  key("optimizer.clip", &p.clip, "largest global norm of the gradient; 0: no clipping").between(0, 1e30);

  key("optimizer.shard", &p.shard,
      "what each replica keeps only its part of: the moments (ZeRO-1), or the summed gradients too (ZeRO-2)");

  table.add(mesh_keys(o.mesh));
  table.add(sequence_keys(o.sequence));

  key("checkpoint.directory", &o.checkpoint.directory, "the run's directory: config.ini, metrics.jsonl, step-*/",
      "directory");
  key("checkpoint.every", &o.checkpoint.every, "steps between checkpoints; 0: at the end only", "steps")
      .between(0, most_steps);
  key("checkpoint.keep", &o.checkpoint.keep, "newest checkpoints that stay; 0: all", "checkpoints").between(0, 1e9);
  key("checkpoint.local", &o.checkpoint.local,
      "memory or disk of each node's own, as /dev/shm, for checkpoints in between; empty: none", "directory");
  key("checkpoint.local_every", &o.checkpoint.local_every, "steps between these", "steps")
      .between(1, most_steps)
      .not_with("checkpoint.local", {""});

  key("watchdog.seconds", &o.watchdog_seconds, "a run ends when a rank waited so long for another; 0: never", "seconds")
      .between(0, 366 * 24 * 3600);

  table.add(model_keys(o.model));
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

}  // namespace lexring
