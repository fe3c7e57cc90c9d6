#include "jobs/commands/train.h"

#include <optional>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/config/options.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stop_signal.h"
#include "jobs/launch/stored_tokenizer.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/run_start.h"
#include "jobs/training/trainer.h"
#include "jobs/training/training_progress.h"
#include "models/config_check.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring train: pretrain a model; run it under mpirun or srun for several ranks

  lexring train --config configs/quickstart.ini --data.train corpus.h5 --checkpoint.directory runs/first
  mpirun -n 2 lexring train --config configs/quickstart.ini --config configs/quickstart_rope.ini --data.train corpus.h5

The same command goes on where it was stopped. Its exit code is 0 when all steps are done, 75 when a signal stopped
it with a checkpoint and steps are left, 1 after an error, 2 for a mistake in the command.

--init runs/first begins a new run with the weights of that one, for another length, other data or another rescaling
of positions:

  lexring train --init runs/first --train.length 1024 --position.scaling linear --position.scaling_factor 4 \
    --data.train corpus.h5
    --checkpoint.directory runs/longer

Sections [layer.0], [layer.last] and [layers.every.4] hold position.* and attention.* keys of single layers; on the
command line --layer.0.attention.pattern causal.

Keys, on the command line or as INI sections:
)";

/// The vocabulary comes from the data, and so does the landmark's id; a key may only confirm them.
void take_vocabulary(Options& o, const Dataset& data) {
  const std::int64_t vocab = data.vocab() + o.own_ids();
  const std::string held =
      fmt::format("{} has one of {} ({} tokens){}", data.path().string(), data.vocab(), data.tokenizer(),
                  o.train.objective == Objective::mlm ? ", to which train.objective = mlm adds the mask"
                  : o.own_ids() > 0                   ? ", to which attention.normalizer = landmark adds the landmark"
                                                      : "");
  require_usage(o.init.empty() || o.model.vocab == vocab,
                "the weights of {} are of a vocabulary of {}, but {}; prepare it with the tokenizer of that training",
                o.init, o.model.vocab, held);
  require_usage(o.model.vocab == 0 || o.model.vocab == vocab,
                "model.vocab = {}, but {}; leave model.vocab out to take the data's", o.model.vocab, held);
  o.model.vocab = vocab;
  use_last_id_for_landmarks(o.model);
  require_usage(o.train.objective == Objective::causal || data.answers().empty(),
                "{} says which tokens are answers to learn, but train.objective = mlm hides any; choose causal",
                data.path().string());
}

/// "10.7 M parameters"; "…, 98.3 k of them trained".
std::string describe_parameters(const Transformer& model) {
  const auto count = [](std::int64_t number) { return format_count(static_cast<double>(number)); };
  const std::string all = count(model.parameter_count()) + " parameters";
  return model.trained_count() == model.parameter_count()
             ? all
             : fmt::format("{}, {} of them trained", all, count(model.trained_count()));
}

}  // namespace

int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  const bool first = world->rank() == 0;
  Options defaults;
  if (answers_help(args,
                   usage + option_keys(defaults).help() +
                       "\n  --config FILE.ini              read keys from a file; may be given again, later ones win\n",
                   *world))
    return 0;
  const StopSignal stop;  // one that comes before the first step is honoured after it
  Options o = read_run_options(args, *world);
  world->set_patience(static_cast<double>(o.watchdog_seconds));
  const CommandPlace place = open_place(o, world);
  Backend& backend = *place.device.backend;
  const Context& context = place.mesh.context;
  micro_batches(0, o.train.batch, 0, context.mesh().size(Axis::dp),
                o.train.micro_batch);  // throws where the batch does not divide
  require_usage(!o.data.train.empty(),
                "data.train is missing: there is nothing to train on; make a data set with `lexring prepare --input "
                "TEXT... --output corpus.h5` and give --data.train corpus.h5");
  require_usage(
      o.train.minutes == 0 || o.optimizer.warmup >= 25,
      "train.minutes chooses the number of steps during the warm-up, so optimizer.warmup = {} must be at least 25",
      o.optimizer.warmup);
  Dataset train = Dataset::open(o.data.train);
  std::optional<Dataset> valid;
  if (!o.data.valid.empty()) valid.emplace(Dataset::open(o.data.valid));
  take_vocabulary(o, train);
  if (valid) take_vocabulary(o, *valid);
  check(o.model);
  train.insert_landmarks(landmark_every_of(o.model));
  if (valid) valid->insert_landmarks(landmark_every_of(o.model));
  require_usage(!o.model.position.kind->bounded || o.train.length <= o.model.max_length,
                "train.length = {}, but there are learned positions for {} only (model.max_length), and they do not "
                "extrapolate; choose "
                "train.length up to that",
                o.train.length, counted(o.model.max_length, "token"));
  require_usage(!o.model.position.kind->bounded || o.sampling.reach(o.train.length) <= o.model.max_length,
                "sampling.kind = {} draws positions up to {}, but there are learned ones for {} only "
                "(model.max_length); choose a smaller sampling.limit, or a larger model.max_length",
                name_of(o.sampling.kind), o.sampling.reach(o.train.length) - 1, counted(o.model.max_length, "token"));
  require_same(*world, fmt::format("{}\n{}", train.content_hash(), to_ini(o)),
               "configuration or training data; are files and keys the same on all nodes?");
  std::optional<RunLock> lock;
  agree(*world, [&] {
    if (first) lock.emplace(o.checkpoint.directory);
    if (first && lock->held()) delete_debris(o.checkpoint.directory);
  });
  const auto local = local_checkpoints(o, *world);
  const auto checkpoint = checkpoint_to_resume(o, *world);
  if (valid) require_same_tokenizer(*valid, train);

  Trainer trainer(o, context, backend, train, valid ? &*valid : nullptr);
  std::optional<CheckpointReader> reader;
  if (checkpoint || !o.init.empty()) reader.emplace(checkpoint ? *checkpoint : std::filesystem::path(o.init));
  if (reader) require_same_tokenizer(*reader, train);
  if (checkpoint) trainer.resume(*reader);
  else if (reader) trainer.begin_with(*reader);
  if (first) {
    say("{}\n{}, {}, {} {}, {}; results in {}\n", place.mesh.description, describe_parameters(trainer.model()),
        counted(train.tokens(), "token"), backend.describe(), name_of(o.train.precision), describe_start(o, checkpoint),
        o.checkpoint.directory);
    if (reader && !checkpoint) say("{}", describe_init(o, *reader));
  }
  if (trainer.options().train.minutes == 0 && trainer.step() >= trainer.options().train.steps) {
    const std::string minutes = o.train.minutes > 0 ? "--train.minutes 0 " : "";  // they chose the steps
    if (first)
      say("already trained for {}; ask for more with {}--train.steps N\n", counted(trainer.step(), "step"), minutes);
    return 0;
  }
  if (checkpoint) go_on(*checkpoint, reader->state(), trainer.options(), *world);
  reader.reset();
  trainer.keep_local(begin_local_checkpoints(o, *world, local));
  MetricSinks sinks;
  if (first) {
    const RunDirectory directory(o.checkpoint.directory);
    sinks.push_back(std::make_unique<MetricsFile>(directory.metrics(), trainer.step()));
    sinks.push_back(std::make_unique<TrainingProgress>());
  }
  return trainer.run(sinks) == RunEnd::finished ? 0 : to_be_continued;
}

}  // namespace lexring
