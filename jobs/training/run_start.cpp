#include "jobs/training/run_start.h"

#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/config/changes.h"
#include "jobs/config/ini_file.h"
#include "jobs/launch/model_state.h"
#include "jobs/launch/nodes.h"
#include "jobs/training/run_directory.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/newest.h"
#include "parallel/checkpoint/promotion.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

Options stored_options(const CheckpointReader& checkpoint) {
  return parse_ini_text(checkpoint.state().configuration, checkpoint.path().string() + " (stored configuration)");
}

/// `asked` may name the checkpoint or the run that it is of.
bool means(const std::string& asked, const std::filesystem::path& checkpoint) {
  std::error_code error;
  auto path = std::filesystem::weakly_canonical(asked, error);
  if (path.filename().empty()) path = path.parent_path();
  return !error && (path == checkpoint || path == checkpoint.parent_path());
}

/// What config.ini says, or nothing where it cannot be read as one.
std::optional<Options> options_in(const RunDirectory& directory) {
  try {
    return parse_ini_text(read_ini_file(directory.config()), directory.config().string());
  } catch (const Error&) {
    return std::nullopt;
  }
}

void say_changes(const TrainingState& stored, const Options& now) {
  const auto before = parse_ini_text(stored.configuration, "stored configuration");
  for (const std::string& line : describe_changes(before, now, stored.step + 1)) say("{}\n", line);
  const RunDirectory directory(now.checkpoint.directory);
  if (!std::filesystem::exists(directory.config())) return;
  const auto written = options_in(directory);
  if (written && changes_between(*written, now).empty()) return;
  say("the configuration before step {} is kept in {}\n", stored.step + 1, directory.keep_config(stored.step + 1));
}

}  // namespace

Options read_run_options(const std::vector<std::string>& args, Communicator& world) {
  const OptionTexts texts = read_option_texts(args);
  const Options asked = peek_options(texts);
  const bool anew = asked.resume == "none", by_path = asked.resume != "auto" && !anew;
  const auto own = anew      ? std::nullopt
                   : by_path ? find_checkpoint(world, asked.resume)
                             : find_newest_readable(world, asked.checkpoint.directory);
  const auto from = own || by_path || asked.init.empty() ? own : find_checkpoint(world, asked.init);
  std::optional<Options> before;
  if (from) before = stored_options(open_for_all(world, *from));
  if (asked.init.empty()) {
    Options options = parse_options(texts, {}, {}, nullptr);
    // A run goes on in the precision that was chosen for it, whatever this machine would choose.
    if (options.train.precision == PrecisionChoice::automatic && before)
      options.train.precision = before->train.precision;
    return options;
  }
  require_usage(from.has_value(), "--{} {}: there is no checkpoint; give a step-* directory or a run's directory",
                by_path ? "resume" : "init", by_path ? asked.resume : asked.init);
  require_usage(!own || means(asked.init, before->init),
                "--init {}, but the run of {} {}; leave --init out to go on with that run, or choose another "
                "--checkpoint.directory",
                asked.init, from->string(),
                before->init.empty() ? "did not begin with the weights of a checkpoint"
                                     : "began with the weights of " + before->init);
  Options options = parse_options(texts, {}, {}, &*before);
  options.init = own ? before->init : from->string();
  return options;
}

std::optional<LocalPlace> local_checkpoints(const Options& o, Communicator& world) {
  if (o.checkpoint.local.empty()) return std::nullopt;
  LocalPlace place(world, o.checkpoint.local, o.checkpoint.directory, gather_nodes(world));
  const std::string lines = o.resume == "auto" ? promote_local(world, place, o.checkpoint.keep) : "";
  if (world.rank() == 0) say("{}", lines);
  return place;
}

std::unique_ptr<LocalTier> begin_local_checkpoints(const Options& o, Communicator& world,
                                                   const std::optional<LocalPlace>& place) {
  if (place) return std::make_unique<LocalTier>(world, *place);
  agree(world, [&] {
    if (world.rank() == 0) forget_turn(o.checkpoint.directory);
  });
  return nullptr;
}

std::optional<CheckpointReader> checkpoint_to_resume(const Options& o, Communicator& world) {
  const std::filesystem::path directory = o.checkpoint.directory;
  if (o.resume == "auto") {
    NewestWhole newest = open_newest_whole(world, directory);
    for (const std::string& damage : world.rank() == 0 ? newest.passed_over : std::vector<std::string>())
      say("{}\nso the run goes on from the checkpoint before: {}\n", damage, newest.reader->path().string());
    return std::move(newest.reader);
  }
  const auto there = find_checkpoint(world, directory);
  if (o.resume == "none") {
    require_usage(
        !there, "--resume none, but checkpoint.directory {} already holds {}; move it away or choose another directory",
        directory.string(), there ? there->filename().string() : "");
    return std::nullopt;
  }
  const auto found = find_checkpoint(world, o.resume);
  require_usage(found.has_value(), "--resume {}: there is no checkpoint; give a step-* directory or a run's directory",
                o.resume);
  require_usage(!there || there->parent_path() == found->parent_path(),
                "--resume {} would go on in checkpoint.directory {}, which holds {} of another run; choose an empty "
                "--checkpoint.directory",
                o.resume, directory.string(), there ? there->filename().string() : "");
  return open_for_all(world, *found);
}

Options require_same_run(const Options& options, const CheckpointReader& checkpoint, const std::string& dataset_hash) {
  const std::string name = checkpoint.path().string();
  const TrainingState& stored = checkpoint.state();
  Options before = stored_options(checkpoint);
  const auto& now = options.train;
  require_usage(stored.dataset_hash == dataset_hash,
                "{} was trained on another data set than {} (content hash {} against {}); give the same data, or begin "
                "a new run with its weights: --init, in another --checkpoint.directory",
                name, options.data.train, stored.dataset_hash, dataset_hash);
  require_usage(
      before.train.seed == now.seed && before.train.length == now.length,
      "{} was trained with train.seed = {} and train.length = {}, now they are {} and {}: the order of the data would "
      "change; keep them, or begin a new run with its weights: --init, in another --checkpoint.directory",
      name, before.train.seed, before.train.length, now.seed, now.length);
  require_usage(before.data.documents == options.data.documents,
                "{} was trained with data.documents = {}, now it is {}: other targets would count; keep it, or start "
                "anew in another --checkpoint.directory",
                name, name_of(before.data.documents), name_of(options.data.documents));
  require_usage(before.data.end_of_document == options.data.end_of_document,
                "{} was trained with data.end_of_document = {}, now it is {}: other targets would count; keep it, or "
                "start anew in another --checkpoint.directory",
                name, name_of(before.data.end_of_document), name_of(options.data.end_of_document));
  require_usage(
      before.sampling == options.sampling,
      "{} was trained with sampling.kind = {}, now it is {} (or its numbers are others: {}, {}, {}, {} and {} as "
      "sampling.limit, jump, global_shift, local_shift and global_scale, now {}, {}, {}, {} and {}): other positions "
      "would be drawn; keep them, or begin a new run with its weights: --init, in another --checkpoint.directory",
      name, name_of(before.sampling.kind), name_of(options.sampling.kind), before.sampling.limit, before.sampling.jump,
      before.sampling.global_shift, before.sampling.local_shift, before.sampling.global_scale, options.sampling.limit,
      options.sampling.jump, options.sampling.global_shift, options.sampling.local_shift,
      options.sampling.global_scale);
  require_usage(
      before.train.objective == now.objective && before.mlm == options.mlm,
      "{} was trained with train.objective = {} (mlm.share = {}, mlm.masked = {}, mlm.random = {}), now it is "
      "{} ({}, {}, {}): other targets would count; keep them, or start anew in another --checkpoint.directory",
      name, name_of(before.train.objective), before.mlm.share, before.mlm.masked, before.mlm.random,
      name_of(now.objective), options.mlm.share, options.mlm.masked, options.mlm.random);
  require_same_model(options, before, name);
  return before;
}

std::string describe_start(const Options& options, const std::optional<std::filesystem::path>& checkpoint) {
  if (checkpoint) return "resumed from " + checkpoint->string();
  if (!options.init.empty()) return "a new run with the weights of " + options.init;
  return "from the start";
}

std::string describe_init(const Options& options, const CheckpointReader& checkpoint) {
  std::vector<std::string> others;
  for (const Change& change : changes_between(stored_options(checkpoint), options)) {
    const std::string section = change.key.substr(0, change.key.find('.'));
    const bool of_interest = section == "model" || section == "position" || section == "attention" ||
                             section == "data" || section == "layer" || section == "adapter";
    if (of_interest || change.key == "train.length") others.push_back(change.text);
  }
  return others.empty() ? "" : fmt::format("other than there: {}\n", fmt::join(others, ", "));
}

void go_on(const std::filesystem::path& checkpoint, const TrainingState& stored, const Options& now,
           Communicator& world) {
  agree(world, [&] {
    if (world.rank() != 0) return;
    say_changes(stored, now);
    std::error_code error;
    if (!std::filesystem::equivalent(checkpoint.parent_path(), now.checkpoint.directory, error)) return;
    forget_turn(now.checkpoint.directory);  // local checkpoints of before are of no use from here on
    const Branch branch = go_on_from(checkpoint);
    if (branch.set_aside.empty()) return;
    say("the run goes back to {}: {} {} set aside, as step-*{}\n", branch.checkpoint.filename().string(),
        fmt::join(branch.set_aside, ", "), branch.set_aside.size() == 1 ? "is" : "are", branch.set_aside_as);
  });
}

}  // namespace lexring
