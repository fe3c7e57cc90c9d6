// The same numbers on every mesh: 20 steps on each, against one rank's.
//
// Ranks form groups of each mesh's size, which run cases side by side. What one rank computes is computed once per
// model, pattern and data.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "jobs/config/keys.h"
#include "parallel/comm/host/mpi.h"
#include "tests/parity/cases.h"
#include "tests/parity/outcome.h"
#include "tests/parity/results.h"
#include "tests/parity/workplace.h"

namespace lexring::parity {
namespace {

const char* const usage = R"(parity_grid: the same numbers on every mesh

  mpirun -n 8 parity_grid [--quick] [--only SUBSTRING] [--passed LINES] [--table FILE.md]
)";

struct Arguments {
  std::vector<std::string> only;
  std::string table, passed, directory = std::filesystem::temp_directory_path().string();
  std::int64_t every = 1;
  bool quick = false, list = false, trace = false;
};

class Grid {
 public:
  Grid(const Arguments& arguments, std::shared_ptr<Communicator> world)
      : arguments_(arguments), world_(std::move(world)) {
    cases_ = arguments.quick ? quick_cases(world_->size()) : all_cases(world_->size());
    const auto unwanted = [&](const Case& which) {
      return std::any_of(arguments.only.begin(), arguments.only.end(),
                         [&](const std::string& part) { return which.describe().find(part) == std::string::npos; });
    };
    cases_.erase(std::remove_if(cases_.begin(), cases_.end(), unwanted), cases_.end());
    std::vector<Case> sample;
    for (std::size_t n = 0; n < cases_.size(); n += static_cast<std::size_t>(arguments.every))
      sample.push_back(cases_[n]);
    cases_ = std::move(sample);
    if (!arguments.passed.empty()) passed_ = read_passed(arguments.passed, cases_);
    for (const Result& result : passed_) is_passed_.insert(result.index);
  }

  const std::vector<Case>& cases() const { return cases_; }

  /// Everybody's results. Collective.
  std::vector<Result> run() {
    place_.emplace(world_, arguments_.directory);
    if (world_->rank() == 0) results_ = passed_;
    run_references();
    for (int size = 1; size <= world_->size(); ++size) run_size(size);
    std::vector<Result> all = gather(results_, *world_);
    place_.reset();
    return all;
  }

 private:
  std::filesystem::path reference_directory(const Case& which) const { return *place_ / which.reference(); }

  /// Dealt out over the ranks, each computing alone.
  void run_references() {
    std::vector<const Case*> wanted;
    std::set<std::string> names;
    for (std::size_t n = 0; n < cases_.size(); ++n) {
      if (!is_passed_.contains(n) && names.insert(cases_[n].reference()).second) wanted.push_back(&cases_[n]);
    }
    const Context alone;
    std::vector<double> mine;
    for (std::size_t n = 0; n < wanted.size(); ++n) {
      if (n % static_cast<std::size_t>(world_->size()) != static_cast<std::size_t>(world_->rank())) continue;
      const Outcome outcome =
          train(reference_options_of(*wanted[n], reference_directory(*wanted[n]).string()), alone, place_->data());
      mine.insert(mine.end(), outcome.losses.begin(), outcome.losses.end());
      mine.insert(mine.end(), outcome.gradient_norms.begin(), outcome.gradient_norms.end());
    }
    const auto all = world_->all_gather(std::as_bytes(std::span(mine)));
    for (std::size_t n = 0; n < wanted.size(); ++n) {
      const auto* numbers = reinterpret_cast<const double*>(all[n % all.size()].data()) + n / all.size() * 2 * steps;
      references_[wanted[n]->reference()] = {{numbers, numbers + steps}, {numbers + steps, numbers + 2 * steps}, {}};
    }
  }

  /// Cases on meshes of `size` ranks, dealt out over as many groups as there is place for.
  void run_size(int size) {
    std::vector<std::size_t> indices;
    for (std::size_t n = 0; n < cases_.size(); ++n) {
      if (cases_[n].mesh.ranks() == size && !is_passed_.contains(n)) indices.push_back(n);
    }
    if (indices.empty()) return;
    const int groups = world_->size() / size, group = world_->rank() / size;
    const std::shared_ptr<Communicator> mine = world_->split(fmt::format("group{}", group), group);
    for (std::size_t n = 0; group < groups && n < indices.size(); ++n) {
      if (n % static_cast<std::size_t>(groups) == static_cast<std::size_t>(group)) run_case(indices[n], mine);
    }
    world_->barrier();
  }

  void run_case(std::size_t index, const std::shared_ptr<Communicator>& group) {
    const Case& which = cases_[index];
    const std::filesystem::path directory = *place_ / fmt::format("case-{}", index);
    const bool first = group->rank() == 0;
    if (first && arguments_.trace) fmt::print(stderr, "begins {}\n", which.describe());
    Result result;
    result.index = index;
    try {
      const Options options = options_of(which, directory.string());
      const Context context(group, which.mesh);
      const Outcome outcome = train(options, context, place_->data());
      if (first) judge(which, outcome, directory, options, result);
    } catch (const UsageError& error) {  // the same on every rank
      result.failure = fmt::format("refused: {}", error.what());
    }
    if (!first) return;
    std::filesystem::remove_all(directory);
    fmt::print("{}", describe(which, result));
    std::fflush(stdout);
    results_.push_back(result);
  }

  void judge(const Case& which, const Outcome& outcome, const std::filesystem::path& directory, const Options& options,
             Result& result) {
    const Outcome& reference = references_.at(which.reference());
    const auto [found, isNew] = expected_.try_emplace(which.reference());
    if (isNew) found->second = read_tensors(reference_directory(which), options, reference);
    result.errors = compare(outcome, read_tensors(directory, options, outcome), reference, found->second);
    if (!result.errors.within()) {
      result.failure =
          fmt::format("gradient of {}, parameter {}", result.errors.worst_gradient, result.errors.worst_parameter);
    }
    if (!outcome.drift.empty()) result.failure += fmt::format(" copies of {} differ between ranks", outcome.drift);
  }

  const Arguments& arguments_;
  std::shared_ptr<Communicator> world_;
  std::vector<Case> cases_;
  std::vector<Result> passed_;
  std::set<std::size_t> is_passed_;
  std::optional<Workplace> place_;
  std::map<std::string, Outcome> references_;
  std::map<std::string, Tensors> expected_;
  std::vector<Result> results_;
};

int run(const std::vector<std::string>& given, const std::shared_ptr<Communicator>& world) {
  Arguments arguments;
  KeyTable keys;
  keys.add(
      {{"quick", &arguments.quick, "a covering selection", "", "", {}, true},
       {"only", &arguments.only, "cases whose description contains each of these", "words"},
       {"every", &arguments.every, "of those, only each so many", "cases"},
       {"list", &arguments.list, "print the cases, run none", "", "", {}, true},
       {"trace", &arguments.trace, "say which case begins", "", "", {}, true},
       {"passed", &arguments.passed, "what an earlier run printed: cases that passed there are not run again", "file"},
       {"table", &arguments.table, "write a table", "file"},
       {"directory", &arguments.directory, "where runs lie meanwhile", "directory"}});
  const bool first = world->rank() == 0;
  if (asks_help(given)) {
    if (first) fmt::print("{}{}", usage, keys.help());
    return 0;
  }
  keys.parse_arguments(given);
  require_usage(arguments.every >= 1, "every = {} is impossible; give 1 for all cases, or more", arguments.every);
  Grid grid(arguments, world);
  if (arguments.list) {
    for (const Case& which : grid.cases()) {
      if (first) fmt::print("{}\n", which.describe());
    }
    return 0;
  }
  require_usage(!grid.cases().empty(), "no case on at most {} ranks contains all of --only; --list shows them",
                world->size());
  const std::vector<Result> results = grid.run();
  const auto failed =
      std::count_if(results.begin(), results.end(), [](const Result& result) { return !result.failure.empty(); });
  if (first) fmt::print("{} cases, {} failed\n", results.size(), failed);
  if (first && !arguments.table.empty()) write_table(arguments.table, grid.cases(), results);
  return failed == 0 && results.size() == grid.cases().size() ? 0 : 1;
}

}  // namespace
}  // namespace lexring::parity

int main(int argc, char** argv) {
  lexring::MpiSession session(argc, argv);
  try {
    return lexring::parity::run({argv + 1, argv + argc}, session.world());
  } catch (const std::exception& error) {
    fmt::print(stderr, "rank {}: {}\n", session.world()->rank(), error.what());
    std::fflush(stderr);
    session.end_all(1);
  }
}
