/// A run's whole configuration: one table of keys (configs/README.md), defaults < --config FILE.ini (repeatable) <
/// command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "datasets/batches.h"
#include "framework/optim/adamw.h"
#include "framework/optim/lr_schedule.h"
#include "jobs/config/keys.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/config/model_keys.h"
#include "models/layer_configs.h"
#include "models/masking.h"
#include "models/sampling.h"
#include "models/transformer.h"
#include "parallel/data/data_parallel.h"

namespace lexring {

enum class ResidualChoice { fp32, bf16 };
constexpr auto words(ResidualChoice) {
  return std::to_array<Word<ResidualChoice>>({{ResidualChoice::fp32, "fp32"},
                                              {ResidualChoice::bf16, "bf16"},
                                              {ResidualChoice::fp32, "f32"}});  // as it was once written
}

/// What backward makes again; none: what memory is enough for, until the model is there.
inline std::vector<Word<std::optional<Recompute>>> words(const std::optional<Recompute>&) {
  std::vector<Word<std::optional<Recompute>>> all = {{std::nullopt, "auto"}};
  for (const Word<Recompute>& word : words(Recompute())) all.push_back({word.value, word.text});
  return all;
}

/// What is done about a step whose loss or gradient norm is far above those before it.
enum class SpikeChoice { ignore, skip, rollback, stop };
constexpr auto words(SpikeChoice) {
  return std::to_array<Word<SpikeChoice>>({{SpikeChoice::ignore, "ignore"},
                                           {SpikeChoice::skip, "skip"},
                                           {SpikeChoice::rollback, "rollback"},
                                           {SpikeChoice::stop, "stop"}});
}

struct Options {
  DeviceKeys device;
  std::string resume = "auto";  ///< auto none PATH
  std::string init;             ///< the checkpoint whose weights a new run begins with; empty: none
  struct Data {
    std::string train, valid;
    Documents documents = Documents::mask;
    EndOfDocument end_of_document = EndOfDocument::token;
    DocumentUse use() const { return {documents, end_of_document}; }
  } data;
  ModelConfig model;
  struct Train {
    Objective objective = Objective::causal;
    std::int64_t length = 256;
    std::int64_t batch = 8;        ///< sequences per step over all ranks
    std::int64_t micro_batch = 0;  ///< sequences per replica at a time; 0: all of the replica's
    std::int64_t steps = 1000;
    double minutes = 0;  ///< > 0: steps are chosen from the speed of the first 20
    std::int64_t seed = 1;
    PrecisionChoice precision = PrecisionChoice::fp32;
    ResidualChoice residual = ResidualChoice::fp32;
    std::optional<Recompute> recompute = Recompute::none;
    std::string frozen;            ///< "norm,embedding": parts of names of parameters that are not trained
    std::int64_t valid_every = 0;  ///< 0: at the end only
    std::int64_t valid_windows = 64;
    SpikeChoice spike = SpikeChoice::ignore;
    double spike_score = 6;             ///< standard deviations
    std::int64_t spike_window = 128;    ///< accepted steps
    std::int64_t compare_every = 1000;  ///< steps; 0: never
  } train;
  SamplingConfig sampling;
  MaskingConfig mlm;
  struct Optimizer {
    double lr = 3e-4, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
    std::int64_t warmup = 100;  ///< steps
    Decay schedule = Decay::cosine;
    double final_fraction = 0.1;  ///< fraction of lr at the last step
    double power = 1.0;           ///< polynomial's exponent
    double weight_decay = 0.1;
    double clip = 1.0;  ///< largest global norm of the gradient; 0: off
    Shard shard = Shard::none;
  } optimizer;
  MeshKeys mesh;
  SequenceKeys sequence;
  struct Checkpoint {
    std::string directory = "runs/default";
    std::int64_t every = 1000;  ///< steps; 0: at the end only
    std::int64_t keep = 3;      ///< 0: all
    std::string local;          ///< a directory of each node's own; empty: none
    std::int64_t local_every = 10;
  } checkpoint;
  std::int64_t watchdog_seconds = 600;  ///< 0: off

  /// Ids that the model has beside those of the data: the last one, for the mask or for landmarks, which do not go
  /// together (check_objective).
  std::int64_t own_ids() const { return train.objective == Objective::mlm || landmark_every_of(model) > 0 ? 1 : 0; }
};

/// The keys of a run, bound to `options`, which must outlive the table.
KeyTable option_keys(Options& options);
/// A key of another command, with the limits of the run's key of the same name: what makes no sense in a training makes
/// none elsewhere.
Key limited_as_in_a_run(Key key);

/// The command line and the --config files that it names, each read once: a pipe is empty afterwards.
struct OptionTexts {
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> files;  ///< name, text
};
/// `extra`: keys of a command beside the run's.
OptionTexts read_option_texts(const std::vector<std::string>& args, const std::vector<Key>& extra = {});
/// Fills in defaults that follow from other keys, and checks what can be checked without data. `defaults`: what is not
/// given. `begin`: whose model this is where no key says otherwise.
Options parse_options(const OptionTexts& texts, const std::vector<Key>& extra, const Options& defaults,
                      const Options* begin);
Options parse_options(const std::vector<std::string>& args, const std::vector<Key>& extra = {},
                      const Options& defaults = {});
/// What files and command line say, before anything follows from it and is checked: for what must be known first.
Options peek_options(const OptionTexts& texts, const std::vector<Key>& extra = {});
/// The configuration of a checkpoint or of a run's config.ini.
Options parse_ini_text(const std::string& text, const std::string& source);
/// Sequences that a replica of a launch of `ranks` computes at a time, for choose_mesh.
WorkShape work_shape(const Options& options, int ranks);
/// The full configuration; parse_ini_text gives the same Options.
std::string to_ini(const Options& options);

/// How the model computes, from train.precision, train.residual, train.recompute and sequence.*. Where nobody has
/// chosen yet what is made again, all of a layer.
ModelRuntime runtime_of(const Options& options);
/// How tokens are hidden; nothing where the next token is learned.
std::optional<Masking> masking_of(const Options& options);
/// Throws UsageError where what tokens see does not go with what the model learns.
void check_objective(Objective objective, const ModelConfig& model);
/// For weights that were trained in another precision. A residual stream in bf16 goes with bf16 only.
void use_precision(Options& options, PrecisionChoice precision);
LrSchedule lr_schedule(const Options& options);
AdamWHyper adamw_hyper(const Options& options);
Precision precision_of(PrecisionChoice choice);  ///< of a choice that is made, not of `automatic`
}  // namespace lexring
