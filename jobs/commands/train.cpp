#include "jobs/commands/train.h"

#include <cstdio>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "jobs/options.h"
#include "jobs/run_directory.h"
#include "jobs/trainer.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring train: pretrain a model; run it under mpirun or srun for several ranks

  lexring train --config configs/quickstart.ini --data.train corpus.h5 --checkpoint.directory runs/first
  mpirun -n 2 lexring train --config configs/quickstart.ini --config configs/quickstart_rope.ini --data.train corpus.h5

The same command goes on where it was stopped. Keys, on the command line or as INI sections:
)";

/// The vocabulary comes from the data; a key may only confirm it.
void take_vocabulary(Options& o, const Dataset& data) {
  require_usage(o.model.vocab == 0 || o.model.vocab == data.vocab(),
                "model.vocab = {} but {} has a vocabulary of {} ({} tokens); leave model.vocab out to take the data's", o.model.vocab,
                data.path().string(), data.vocab(), data.tokenizer());
  o.model.vocab = data.vocab();
}

/// The checkpoint that `resume` means; nothing to start anew.
std::optional<std::filesystem::path> checkpoint_to_resume(const Options& o, Communicator& world) {
  const std::filesystem::path directory = o.checkpoint.directory;
  if (o.resume == "none") {
    const auto there = find_checkpoint(world, directory);
    require_usage(!there, "--resume none, but checkpoint.directory {} already holds {}; move it away or choose another directory",
                  directory.string(), there ? there->filename().string() : "");
    return std::nullopt;
  }
  const auto found = find_checkpoint(world, o.resume == "auto" ? directory : std::filesystem::path(o.resume));
  require_usage(o.resume == "auto" || found, "--resume {}: there is no checkpoint; give a step-* directory or a run's directory", o.resume);
  if (o.resume != "auto") {
    const auto there = find_checkpoint(world, directory);
    const auto home = [](const std::filesystem::path& checkpoint) { return std::filesystem::weakly_canonical(checkpoint).parent_path(); };
    require_usage(!there || home(*there) == home(*found),
                  "--resume {} would go on in checkpoint.directory {}, which holds {} of another run; choose an empty --checkpoint.directory",
                  o.resume, directory.string(), there ? there->filename().string() : "");
  }
  return found;
}

/// A run that goes back leaves its later checkpoints to themselves.
void go_back_to(const std::filesystem::path& checkpoint, const Options& o, Communicator& world) {
  agree(world, [&] {
    std::error_code error;
    const bool own = std::filesystem::equivalent(checkpoint.parent_path(), o.checkpoint.directory, error);
    if (world.rank() != 0 || !own) return;
    const Branch branch = go_on_from(checkpoint);
    if (branch.set_aside.empty()) return;
    fmt::print(stderr, "the run goes back to {}: {} {} set aside, as step-*{}\n", branch.checkpoint.filename().string(),
               fmt::join(branch.set_aside, ", "), branch.set_aside.size() == 1 ? "is" : "are", branch.set_aside_as);
  });
}

}  // namespace

int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  const bool first = world->rank() == 0;
  if (asks_help(args)) {
    Options defaults;
    if (first)
      fmt::print("{}{}\n  --config FILE.ini              read keys from a file; may be given again, later ones win\n", usage,
                 option_keys(defaults).help());
    return 0;
  }
  Options o = parse_options(args);
  world->set_patience(static_cast<double>(o.watchdog_seconds));
  const RunDevice device = open_device(o.device, o.train.precision, world);
  Backend& backend = *device.backend;
  const RunMesh run = make_run_mesh(device.world, o.mesh, o.sequence, o.model, work_shape(o, world->size()));
  const Context& context = run.context;
  micro_batches(0, o.train.batch, 0, context.mesh().size(Axis::dp), o.train.micro_batch);  // throws where the batch does not divide
  require_usage(!o.data.train.empty(),
                "data.train is missing: there is nothing to train on; make a data set with `lexring prepare --input "
                "TEXT... --output corpus.h5` and give --data.train corpus.h5");
  require_usage(o.train.minutes == 0 || o.optimizer.warmup >= 25,
                "train.minutes chooses the number of steps during the warm-up, so optimizer.warmup = {} must be at least 25",
                o.optimizer.warmup);
  const Dataset train = Dataset::open(o.data.train);
  std::optional<Dataset> valid;
  if (!o.data.valid.empty()) valid.emplace(Dataset::open(o.data.valid));
  take_vocabulary(o, train);
  if (valid) take_vocabulary(o, *valid);
  check(o.model);
  require_same(*world, fmt::format("{}\n{}", train.content_hash(), to_ini(o)),
               "configuration or training data; are files and keys the same on all nodes?");
  std::optional<RunLock> lock;
  agree(*world, [&] {
    if (first) lock.emplace(o.checkpoint.directory);
    if (first && lock->held()) delete_debris(o.checkpoint.directory);
  });
  const auto checkpoint = checkpoint_to_resume(o, *world);

  Trainer trainer(o, context, backend, train, valid ? &*valid : nullptr);
  if (checkpoint) trainer.resume(CheckpointReader(*checkpoint));
  if (first) {
    fmt::print(stderr, "{}\n{:.1f} M parameters, {} tokens, {} {}, {}; results in {}\n", run.description,
               static_cast<double>(trainer.model().parameter_count()) / 1e6, train.tokens(), backend.describe(), o.train.precision,
               checkpoint ? fmt::format("resumed from {}", checkpoint->string()) : std::string("from the start"), o.checkpoint.directory);
  }
  if (trainer.options().train.minutes == 0 && trainer.step() >= trainer.options().train.steps) {
    const std::string minutes = o.train.minutes > 0 ? "--train.minutes 0 " : "";  // they chose the steps
    if (first) fmt::print(stderr, "already trained for {} steps; ask for more with {}--train.steps N\n", trainer.step(), minutes);
    return 0;
  }
  if (checkpoint) go_back_to(*checkpoint, o, *world);
  trainer.run();
  return 0;
}

}  // namespace lexring
