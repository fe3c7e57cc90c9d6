/// The command line: finds the command, starts MPI where it is needed, and turns an error into one message and an end
/// on every rank.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "datasets/prepare.h"
#include "framework/backend/cuda_backend.h"
#include "framework/base/console.h"
#include "framework/base/error.h"
#include "framework/base/signal_stack.h"
#include "jobs/commands/bench.h"
#include "jobs/commands/config.h"
#include "jobs/commands/evaluate.h"
#include "jobs/commands/generate.h"
#include "jobs/commands/inspect.h"
#include "jobs/commands/mesh.h"
#include "jobs/commands/prepare.h"
#include "jobs/commands/status.h"
#include "jobs/commands/study.h"
#include "jobs/commands/train.h"
#include "jobs/commands/verify.h"
#include "jobs/commands/version.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/mesh_setup.h"
#include "jobs/launch/stop_signal.h"
#include "jobs/launch/wait_policy.h"
#include "parallel/comm/host/mpi.h"
#include "parallel/comm/watch/watchdog.h"

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
    {"evaluate", "loss and perplexity by length, pattern and position; tables and a report", Ranks::all,
     evaluate_command},
    {"study", "train and evaluate many methods: one file, one table", Ranks::first, alone<study_command>},
    {"status", "how runs stand: step, loss, speed, time left and lost, last incident", Ranks::first,
     alone<status_command>},
    {"config", "the configuration that files and keys make", Ranks::first, alone<config_command>},
    {"mesh", "the mesh of a command when nodes are lost", Ranks::first, alone<mesh_command>},
    {"generate", "continue a prompt from a checkpoint", Ranks::launched, generate_command},
    {"inspect", "what is in a data set or a checkpoint; verifies it", Ranks::first, alone<inspect_command>},
    {"verify", "run golden cases on this machine", Ranks::all, verify_command},
    {"bench", "speed and memory of training steps, as JSON", Ranks::all, bench_command},
};

void print_usage() {
  std::string text =
      "lexring: trains transformers short and measures them long\n\n  lexring <command> [--key value ...]\n  lexring "
      "--version\n"
      "  mpirun -n 2 lexring train --config configs/quickstart.ini --data.train corpus.h5\n\n";
  for (const Command& command : commands) text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  print_result_text(text + "\n  lexring <command> --help lists its keys, with units and defaults\n");
}

const Command& find_command(const std::string& name) {
  for (const Command& command : commands) {
    if (name == command.name) return command;
  }
  std::string names;
  for (const Command& command : commands) names += fmt::format(" {}", command.name);
  throw UsageError(fmt::format("there is no command '{}'; choose one of{}", name, names));
}

/// Tasks that Slurm says this launch has; 0: it says nothing. srun tells its own; in a batch script, and so to what
/// mpirun starts from there, it is the job's. On further nodes mpirun's processes are children of its daemons, which
/// srun started: that number is not ours.
int slurm_tasks() {
  const char* tasks = std::getenv("SLURM_NTASKS");
  const bool by_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr,
             inside_step = std::getenv("SLURM_STEP_NUM_TASKS") != nullptr;
  return tasks == nullptr || (by_mpirun && inside_step) ? 0 : std::atoi(tasks);
}

/// srun started several tasks and none of them can find the others, which Open MPI ends before it can say why.
bool started_without_pmi() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr && std::atoi(tasks) > 1 && std::getenv("PMI_RANK") == nullptr && !launched_by_mpi();
}

/// For which the other ranks let rank 0 speak: on a busy machine it takes a while until all of them have ended.
constexpr std::chrono::seconds patience_with_rank_0(3);

/// What has failed has been said: a launcher is not to add what it knows of exit codes.
int end_all(int code, MpiSession* session) {
  if (session != nullptr && launched_by_mpi()) session->end_all(code);
  return code;
}

/// Most errors are the same on every rank; rank 0 speaks first and ends the others before they repeat it.
int report(const Failure& failure, MpiSession* session) {
  const bool several = session != nullptr && session->world()->size() > 1;
  const int rank = several ? session->world()->rank() : 0;
  if (rank > 0) std::this_thread::sleep_for(patience_with_rank_0);
  if (several) say("lexring: rank {}: {}\n", rank, failure.message);
  else say("lexring: {}\n", failure.message);
  for (const std::string& line : failure.lines) say("{}\n", line);
  return end_all(failure.code, session);
}

/// Nobody reads what this command prints (`| head`): as quiet as a program that SIGPIPE ends, with the same exit code.
int end_quietly(MpiSession* session) { return end_all(128 + SIGPIPE, session); }

/// Work that was told to stop and did: ended by that signal as far as the caller can see.
int end_interrupted(const std::string& message, MpiSession* session) {
  const int signal = StopSignal().number();
  report({message, 128 + signal, {}}, session);
  if (session == nullptr) SignalThread::end_by(signal);
  return 128 + signal;
}

/// All ranks have done their work and end with `code`. mpirun would add a dozen lines on an exit code other than 0, so
/// rank 0 ends the others. srun returns the highest code, but may kill whoever is left once a task ends with one (then
/// the highest is that of a signal), so that rank 0 alone says it, when the others are gone.
int end_together(int code, std::unique_ptr<MpiSession>& session, std::unique_ptr<Watchdog>& watchdog) {
  if (code == 0 || session == nullptr || session->world()->size() == 1) return code;
  const bool first = session->world()->rank() == 0;
  const bool by_srun = std::getenv("SLURM_STEP_NUM_TASKS") != nullptr && std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr;
  if (!by_srun) {
    if (!first) std::this_thread::sleep_for(patience_with_rank_0);
    return end_all(code, session.get());
  }
  watchdog.reset();
  session.reset();
  if (first) std::this_thread::sleep_for(patience_with_rank_0);
  return first ? code : 0;
}

int run_command(const Arguments& all, const MpiSession* session) {
  const Command& command = find_command(all[0]);
  const World world = session ? session->world() : World(make_self_communicator());
  if (command.ranks == Ranks::first && world->rank() > 0) return 0;
  if (command.ranks != Ranks::first && world->rank() == 0 && session) check_launch(world->size(), slurm_tasks());
  if (command.ranks != Ranks::first) use_signal_stacks_in_loops();
  return command.run(Arguments(all.begin() + 1, all.end()), world);
}

}  // namespace

int main(int argc, char** argv) {
  let_waiting_threads_sleep(argv);
  open_standard_streams();
  load_cuda_kernels_at_start();
  const SignalThread signals;  // before any library starts a thread
  use_signal_stack();
  const Arguments all(argv + 1, argv + argc);
  std::optional<StopSignal> done;
  std::unique_ptr<MpiSession> session;
  std::unique_ptr<Watchdog> watchdog;
  try {
    if (all.empty() || all[0] == "--help" || all[0] == "-h" || all[0] == "help") {
      print_usage();
      return all.empty() ? 2 : 0;
    }
    if (all[0] == "--version" || all[0] == "-V" || all[0] == "version") {
      print_result_text(version_text(mpi_library()));
      return 0;
    }
    const bool needs_mpi = std::any_of(std::begin(commands), std::end(commands),
                                       [&](const Command& c) { return all[0] == c.name && c.ranks == Ranks::all; });
    require_usage(!needs_mpi || !started_without_pmi(),
                  "srun started several tasks, and each of them is alone: use the plug-in that the MPI library speaks, "
                  "`srun --mpi=pmix` (see `srun --mpi=list`), or `mpirun` of the MPI that lexring was built with");
    if (needs_mpi || launched_by_mpi()) session = std::make_unique<MpiSession>(argc, argv);
    move_handlers_to_signal_stacks();  // MPI's, and a profiler's that was loaded with us
    if (session) watchdog = std::make_unique<Watchdog>(*session, 600);  // until the configuration says otherwise
    const int code = run_command(all, session.get());
    done.emplace();  // whoever wants this process to stop from now on, has it stop
    return end_together(code, session, watchdog);
  } catch (const OutputClosed&) {
    return end_quietly(session.get());
  } catch (const Interrupted& error) {
    return end_interrupted(error.what(), session.get());
  } catch (const std::exception& error) {
    return report(failure_of(error), session.get());
  }
}
