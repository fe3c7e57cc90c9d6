#include "jobs/commands/train.h"

#include <optional>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/config/options.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stop_signal.h"
#include "jobs/launch/stored_tokenizer.h"
#include "jobs/training/dry_run.h"
#include "jobs/training/heartbeat.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/run_start.h"
#include "jobs/training/trainer.h"
#include "jobs/training/training_data.h"
#include "jobs/training/training_progress.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/newest.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring train: pretrain a model; run it under mpirun or srun for several ranks

  lexring train --config configs/quickstart.ini --data.train corpus.h5 --checkpoint.directory runs/first
  mpirun -n 2 lexring train --config configs/quickstart.ini --config configs/quickstart_rope.ini --data.train corpus.h5

The same command goes on where it was stopped. Its exit code is 0 when all steps are done, 75 when a signal stopped
it with a checkpoint and steps are left, 1 after an error, 2 for a mistake in the command, 3 when numbers are wrong for
good (data, model or learning rate: starting again does not help), 4 when a machine computes wrong numbers (starting
again without it helps; a line `machine NODE: why` on standard error names it).

--dry-run checks configuration, mesh, data, what the run would go on from, memory and free disk, says what it would
take, and ends in seconds; without mpirun it speaks for as many ranks as --mesh.dp, cp and tp name:

  lexring train --config configs/lex_1b3.ini --data.train pile.h5 --mesh.dp 8 --mesh.cp 4 --dry-run

--init runs/first begins a new run with the weights of that one, for another length, other data or another rescaling
of positions:

  lexring train --init runs/first --train.length 1024 --position.scaling linear --position.scaling_factor 4 \
    --data.train corpus.h5
    --checkpoint.directory runs/longer

Sections [layer.0], [layer.last] and [layers.every.4] hold position.* and attention.* keys of single layers; on the
command line --layer.0.attention.pattern causal.

Keys, on the command line or as INI sections:
)";

/// "10.7 M parameters"; "…, 98.3 k of them trained".
std::string describe_parameters(const Transformer& model) {
  const auto count = [](std::int64_t number) { return format_count(static_cast<double>(number)); };
  const std::string all = count(model.parameter_count()) + " parameters";
  return model.trained_count() == model.parameter_count()
             ? all
             : fmt::format("{}, {} of them trained", all, count(model.trained_count()));
}

/// Everything that comes before the first step, but for the model.
int dry_train(Options& o, const std::shared_ptr<Communicator>& world) {
  const RunDevice device = open_device(o.device, o.train.precision, world);
  const MeshChoice mesh = planned_mesh(o, *world);
  const TrainingData data = open_training_data(o, mesh.mesh, *world);
  agree(*world, [&] {  // held for a moment only: reading checkpoints takes long, and a training may want to start
    if (world->rank() == 0) const RunLock lock(o.checkpoint.directory);
  });
  const auto reader = checkpoint_to_resume(o, *world);
  if (reader) {
    require_same_tokenizer(*reader, data.train);
    require_same_run(o, *reader, data.train.content_hash());
  }
  const auto checkpoint = reader ? std::optional(reader->path()) : std::nullopt;
  return dry_run(o, mesh, device, data.train, describe_start(o, checkpoint));
}

}  // namespace

int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  const double started = seconds_since_1970();
  const bool first = world->rank() == 0;
  Options defaults;
  if (answers_help(args,
                   usage + option_keys(defaults).help() +
                       "\n  --config FILE.ini              read keys from a file; may be given again, later ones win\n",
                   *world))
    return 0;
  const StopSignal stop;  // one that comes before the first step is honoured after it
  std::vector<std::string> keys = args;
  const bool dry = std::erase(keys, "--dry-run") > 0;
  Options o = read_run_options(keys, *world);
  world->set_patience(static_cast<double>(o.watchdog_seconds));
  if (dry) return dry_train(o, world);
  const CommandPlace place = open_place(o, world);
  Backend& backend = *place.device.backend;
  const Context& context = place.mesh.context;
  TrainingData data = open_training_data(o, context.mesh(), *world);
  const Dataset& train = data.train;
  std::optional<RunLock> lock;
  agree(*world, [&] {
    if (first) lock.emplace(o.checkpoint.directory);
    if (first && lock->held()) delete_debris(o.checkpoint.directory);
  });
  const auto local = local_checkpoints(o, *world);
  std::optional<CheckpointReader> reader = checkpoint_to_resume(o, *world);
  const auto checkpoint = reader ? std::optional(reader->path()) : std::nullopt;

  Trainer trainer(o, context, backend, train, data.valid ? &*data.valid : nullptr);
  if (!reader && !o.init.empty()) reader.emplace(open_for_all(*world, o.init));
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
    sinks.push_back(std::make_unique<Heartbeat>(
        directory.path(),
        place_of_run(fmt::format("{}, {}", counted(world->size(), "rank"), context.mesh().describe())), started));
    sinks.push_back(std::make_unique<MetricsFile>(directory.metrics(), trainer.step()));
    sinks.push_back(std::make_unique<TrainingProgress>());
  }
  return trainer.run(sinks) == RunEnd::finished ? exit_code::finished : exit_code::to_be_continued;
}

}  // namespace lexring
