/// The command line: finds the command, starts MPI where it is needed, and turns an error into one message and an end on every rank.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "jobs/commands/bench.h"
#include "jobs/commands/evaluate.h"
#include "jobs/commands/generate.h"
#include "jobs/commands/inspect.h"
#include "jobs/commands/prepare.h"
#include "jobs/commands/train.h"
#include "jobs/commands/verify.h"
#include "jobs/mesh_setup.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/watchdog.h"

namespace {

using namespace lexring;
using Arguments = std::vector<std::string>;
using World = std::shared_ptr<Communicator>;

/// Who takes part in a command.
enum class Ranks {
  first,     ///< rank 0 alone
  launched,  ///< all that a launcher started; one process needs no MPI
  all        ///< all, and MPI always, which tells a lost launch from one process
};

struct Command {
  const char* name;
  const char* summary;
  Ranks ranks;
  int (*run)(const Arguments&, const World&);
};

template <int (*command)(const Arguments&)>
int alone(const Arguments& args, const World&) {
  return command(args);
}

constexpr Command commands[] = {
    {"prepare", "text, JSONL and JSONL.zst -> tokens in HDF5", Ranks::first, alone<prepare_command>},
    {"train", "pretrain a model; resumes by itself", Ranks::all, train_command},
    {"evaluate", "loss and perplexity by length, pattern and position; tables and a report", Ranks::all, evaluate_command},
    {"generate", "continue a prompt from a checkpoint", Ranks::launched, generate_command},
    {"inspect", "what is in a data set or a checkpoint; verifies it", Ranks::first, alone<inspect_command>},
    {"verify", "run golden cases on this machine", Ranks::all, verify_command},
    {"bench", "speed and memory of training steps, as JSON", Ranks::all, bench_command},
};

void print_usage() {
  fmt::print(
      "lexring: trains transformers short and measures them long\n\n  lexring <command> [--key value ...]\n"
      "  mpirun -n 2 lexring train --config configs/quickstart.ini --data.train corpus.h5\n\n");
  for (const Command& command : commands) fmt::print("  {:<10} {}\n", command.name, command.summary);
  fmt::print("\n  lexring <command> --help lists its keys, with units and defaults\n");
}

const Command& find_command(const std::string& name) {
  for (const Command& command : commands) {
    if (name == command.name) return command;
  }
  std::string names;
  for (const Command& command : commands) names += fmt::format(" {}", command.name);
  throw UsageError(fmt::format("there is no command '{}'; choose one of{}", name, names));
}

/// Whether a launcher started this process as one of several. A batch script that calls us directly is not a launcher.
bool launched_by_mpi() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  return false;
}

/// Tasks that Slurm says this launch has; 0: it says nothing. srun tells its own; in a batch script, and so to what mpirun starts from
/// there, it is the job's. On further nodes mpirun's processes are children of its daemons, which srun started: that number is not ours.
int slurm_tasks() {
  const char* tasks = std::getenv("SLURM_NTASKS");
  const bool by_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr, inside_step = std::getenv("SLURM_STEP_NUM_TASKS") != nullptr;
  return tasks == nullptr || (by_mpirun && inside_step) ? 0 : std::atoi(tasks);
}

/// srun started several tasks and none of them can find the others, which Open MPI ends before it can say why.
bool started_without_pmi() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr && std::atoi(tasks) > 1 && std::getenv("PMI_RANK") == nullptr && !launched_by_mpi();
}

/// Most errors are the same on every rank; rank 0 speaks first and ends the others before they repeat it.
int report(const std::string& message, int code, MpiSession* session) {
  const bool several = session != nullptr && session->world()->size() > 1;
  const int rank = several ? session->world()->rank() : 0;
  std::fflush(stdout);
  if (rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  if (several)
    fmt::print(stderr, "lexring: rank {}: {}\n", rank, message);
  else
    fmt::print(stderr, "lexring: {}\n", message);
  std::fflush(stderr);
  if (several) session->end_all(code);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments all(argv + 1, argv + argc);
  if (all.empty() || all[0] == "--help" || all[0] == "-h" || all[0] == "help") {
    print_usage();
    return all.empty() ? 2 : 0;
  }
  std::unique_ptr<MpiSession> session;
  std::unique_ptr<Watchdog> watchdog;
  try {
    const bool needs_mpi =
        std::any_of(std::begin(commands), std::end(commands), [&](const Command& c) { return all[0] == c.name && c.ranks == Ranks::all; });
    require_usage(
        !needs_mpi || !started_without_pmi(),
        "srun started several tasks, and each of them is alone: use the plug-in that the MPI library speaks, `srun --mpi=pmix` (see "
        "`srun --mpi=list`), or `mpirun` of the MPI that lexring was built with");
    if (needs_mpi || launched_by_mpi()) session = std::make_unique<MpiSession>(argc, argv);
    if (session) watchdog = std::make_unique<Watchdog>(*session, 600);  // until the configuration says otherwise
    const Command& command = find_command(all[0]);
    const World world = session ? session->world() : World(make_self_communicator());
    if (command.ranks == Ranks::first && world->rank() > 0) return 0;
    if (command.ranks != Ranks::first && world->rank() == 0 && session) check_launch(world->size(), slurm_tasks());
    return command.run(Arguments(all.begin() + 1, all.end()), world);
  } catch (const UsageError& error) {
    return report(error.what(), 2, session.get());
  } catch (const std::bad_alloc&) {
    return report("there is not enough memory; use a smaller train.micro_batch or model, or --train.recompute block", 1, session.get());
  } catch (const std::exception& error) {
    return report(error.what(), 1, session.get());
  }
}
