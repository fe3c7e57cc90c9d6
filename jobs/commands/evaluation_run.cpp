#include "jobs/commands/evaluation_run.h"

#include <algorithm>
#include <ctime>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/launch/build_info.h"
#include "jobs/launch/exit_codes.h"
#include "parallel/checkpoint/agree.h"

namespace lexring {

EvaluationRun::EvaluationRun(const EvaluateArguments& args, const std::vector<std::string>& words,
                             const std::vector<CheckpointReader>& readers, const std::string& data_hash,
                             const std::vector<std::string>& files, std::vector<PlannedCell> cells,
                             const std::shared_ptr<Communicator>& world)
    : args_(args), world_(world), cells_(std::move(cells)) {
  if (args.output.empty()) {
    parts_.emplace();
  } else {
    agree(*world, [&] {
      if (!first_rank()) return;
      output_.emplace(args.output, files, asked(args, readers, data_hash), command_line(words),
                      args.overwrite ? Existing::replace : Existing::refuse,
                      args.overwrite                           ? PartsThere::discard
                      : args.unfinished == Unfinished::replace ? PartsThere::take
                                                               : PartsThere::go_on);
    });
    parts_.emplace(*world, output_ ? &output_->parts() : nullptr);
  }
  if (const std::string there = done(); first_rank() && !there.empty()) say("evaluate: {} were there already\n", there);
  world->set_patience(static_cast<double>(args.watchdog_seconds));
  for (const CheckpointReader& reader : readers) reader.verify(*world);
}

const RunDevice& EvaluationRun::device_for(const Subject& subject) {
  PrecisionChoice precision = subject.options.train.precision;
  // What multiplies in TF32 is a choice of the device.
  if (device_ && precision_ == precision) return *device_;
  precision_ = precision;
  device_.reset();
  device_.emplace(open_device(args_.device, precision, world_));
  return *device_;
}

std::string EvaluationRun::done() const {
  std::int64_t whole = 0, begun = 0;
  for (const PlannedCell& cell : cells_) {
    const std::int64_t reach = parts_->reach(cell.name);
    (reach == cell.size ? whole : begun) += reach > 0 ? 1 : 0;
  }
  if (whole == 0 && begun == 0) return "";
  return fmt::format("{} of {} cells{}", whole, cells_.size(), begun > 0 ? " and a part of the next" : "");
}

int EvaluationRun::stopped() {
  if (!first_rank()) return exit_code::to_be_continued;
  const bool written = output_->parts().sync();
  const std::string there = done(),
                    command = args_.overwrite ? "the same command without --overwrite" : "the same command";
  if (!written)
    say("stopped by a signal; what could not be written is lost, and {} goes on from what is there\n", command);
  else if (there.empty()) say("stopped by a signal before the first part was done; the same command begins again\n");
  else say("stopped by a signal with {} done; {} goes on from there\n", there, command);
  return exit_code::to_be_continued;
}

std::string describe_machine() {
  utsname name{};
  uname(&name);
  return fmt::format("{}, {}, {}", name.nodename, name.machine,
                     counted(std::thread::hardware_concurrency(), "processor"));
}

std::string describe_now() {
  const std::time_t time = std::time(nullptr);
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(time));
}

std::string describe_version() { return fmt::format("lexring {}, commit {}", build_info.version, build_info.commit); }

}  // namespace lexring
