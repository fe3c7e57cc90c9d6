/// Not a test of GoogleTest's: stops training runs at random moments, and compares each checkpoint with the undisturbed
/// run's of that step, bit by bit.
///
///   stops BINARY RANKS COUNT [PRELOAD.so]
///
/// f32 of several widths, SIGTERM, SIGINT, SIGUSR1 and SIGHUP in turn. Every stop must end within two minutes, with
/// exit code 75 (0 where the last step came first) and a checkpoint of the last step in metrics.jsonl. PRELOAD:
/// tests/jobs/launch/profiler.cpp, which interrupts the run beside; so do we then, by SIGUSR2.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "framework/io/hdf5_file.h"
#include "tests/support/process.h"

extern char** environ;

namespace lexring {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Path = std::filesystem::path;

constexpr int steps = 24;
constexpr int widths[] = {96, 160, 32};
constexpr int stop_signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

struct Job {
  std::string binary;
  int ranks = 1;
  std::string preload;
  Path directory;

  std::string train(int width, const Path& run, const std::string& keys) const {
    return fmt::format(
        "{} train --device cpu --train.precision fp32 --model.layers 1 --model.width {} --model.heads 2 --train.length "
        "64 --train.batch 4 --train.steps {} --optimizer.warmup 3 --data.train {} --checkpoint.directory {} {}",
        binary, width, steps, (directory / "text.h5").string(), run.string(), keys);
  }
};

/// Names, shapes and bytes of all tensors of a checkpoint.
std::string tensors_of(const Path& checkpoint) {
  std::string all;
  std::vector<Path> shards;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    if (entry.path().filename().string().rfind("shard-", 0) == 0) shards.push_back(entry.path());
  }
  std::sort(shards.begin(), shards.end());
  for (const Path& path : shards) {
    const Hdf5File file(path, Hdf5File::Mode::read);
    const std::function<void(const std::string&)> add = [&](const std::string& group) {
      for (const std::string& name : file.members(group)) {
        const std::string object = group.empty() ? name : group + "/" + name;
        if (file.is_group(object)) {
          add(object);
          continue;
        }
        const auto values = file.read_all<float>(object);
        all += fmt::format("{} {} ", path.filename().string(), object);
        all.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
      }
    };
    add("");
  }
  return all;
}

Path step_of(const Path& run, std::int64_t step) { return run / fmt::format("step-{:08}", step); }

std::int64_t lines_of(const Path& file) {
  std::ifstream stream(file);
  std::int64_t lines = 0;
  for (std::string line; std::getline(stream, line);) lines += stream.eof() ? 0 : 1;
  return lines;
}

pid_t start(const std::string& command, const Path& log) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  const std::string executed = "exec " + command;
  const char* arguments[] = {"bash", "-c", executed.c_str(), nullptr};
  pid_t process = 0;
  // Whoever starts tests in the background, or with nohup, has these ignored.
  sigset_t defaults;
  sigemptyset(&defaults);
  for (const int signal : stop_signals) sigaddset(&defaults, signal);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const int error = posix_spawnp(&process, "bash", &files, &attributes, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  require(error == 0, "bash cannot be started: {}", std::strerror(error));
  return process;
}

/// Exit code, or 128 + signal; 124 when it hangs.
int wait_for(pid_t process) {
  int status = 0;
  for (const auto until = Clock::now() + 120s; waitpid(process, &status, WNOHANG) == 0;
       std::this_thread::sleep_for(2ms)) {
    if (Clock::now() < until) continue;
    kill(process, SIGKILL);
    waitpid(process, &status, 0);
    return 124;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// The processes to signal: a launcher passes on SIGUSR1 only, so the others get theirs from us, as from a scheduler.
std::vector<pid_t> ranks_of(pid_t process, int ranks) {
  if (ranks == 1) return {process};
  std::vector<pid_t> found;
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", process));
  for (pid_t child = 0; children >> child;) found.push_back(child);
  return found;
}

std::string text_of(const Path& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class Stops {
 public:
  explicit Stops(Job job) : job_(std::move(job)) {}

  void prepare() {
    std::ofstream text(job_.directory / "text.txt");
    std::mt19937 random(7);
    for (int i = 0; i < 40000; ++i) text << static_cast<char>('a' + random() % 26);
    text.close();
    require(run_process(fmt::format("{} prepare --input {} --output {}", job_.binary,
                                    (job_.directory / "text.txt").string(), (job_.directory / "text.h5").string()))
                    .exit_code == 0,
            "no data set can be made");
    for (const int width : widths) {
      const Path run = undisturbed(width);
      const std::string launcher = job_.ranks > 1 ? mpirun(job_.ranks) : "";
      const auto result = run_process(launcher + job_.train(width, run, "--checkpoint.every 1 --checkpoint.keep 0"));
      require(result.exit_code == 0, "the undisturbed run of width {} ended with {}: {}", width, result.exit_code,
              result.output);
    }
  }

  /// Why it was not as it should be; empty: it was.
  std::string stop(int index) {
    const int width = widths[index % std::size(widths)],
              signal = stop_signals[(index / std::size(widths)) % std::size(stop_signals)];
    const Path run = job_.directory / "stopped", log = job_.directory / "log";
    std::filesystem::remove_all(run);
    const std::string settings = job_.preload.empty() ? "" : "LD_PRELOAD=" + job_.preload + " ";
    const std::string launcher = job_.ranks > 1 ? mpirun(job_.ranks) : "";
    const pid_t process =
        start(fmt::format("env {}{}{}", settings, launcher, job_.train(width, run, "--checkpoint.every 0")), log);
    int status = 0;
    // The moment is random in the steps that the run takes, wherever in a step.
    const double fraction = std::uniform_real_distribution<double>(0, 1)(random_);
    const auto wanted = static_cast<std::int64_t>(1 + fraction * (steps - 5));
    while (lines_of(run / "metrics.jsonl") < wanted) {
      if (waitpid(process, &status, WNOHANG) != 0)
        return describe(index, width, signal, "ended before it was stopped: " + text_of(log));
      std::this_thread::sleep_for(1ms);
      if (!job_.preload.empty() && lines_of(run / "metrics.jsonl") > 0) kill(process, SIGUSR2);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<int>(0, 5000)(random_)));
    for (const pid_t rank : ranks_of(process, job_.ranks)) kill(rank, signal);
    const int code = wait_for(process);
    const std::int64_t done = lines_of(run / "metrics.jsonl");
    if (code != (done == steps ? 0 : 75))
      return describe(index, width, signal, fmt::format("exit code {}: {}", code, text_of(log)));
    if (done == steps) ++late_;
    if (!std::filesystem::exists(step_of(run, done) / "manifest.json"))
      return describe(index, width, signal, fmt::format("no checkpoint of step {}", done));
    if (tensors_of(step_of(run, done)) != tensors_of(step_of(undisturbed(width), done)))
      return describe(index, width, signal, fmt::format("the checkpoint of step {} is another", done));
    return "";
  }

  int late() const { return late_; }

 private:
  Path undisturbed(int width) const { return job_.directory / fmt::format("undisturbed{}", width); }
  static std::string describe(int index, int width, int signal, const std::string& what) {
    return fmt::format("stop {} (width {}, signal {}): {}", index, width, signal, what);
  }

  Job job_;
  std::mt19937_64 random_{std::random_device()()};
  int late_ = 0;  ///< reached the last step first
};

int run(int argc, char** argv) {
  require(argc >= 4, "usage: stops BINARY RANKS COUNT [PRELOAD.so]");
  const Path directory = std::filesystem::temp_directory_path() / fmt::format("lexring_stops_{}", getpid());
  std::filesystem::create_directories(directory);
  setenv("OMP_NUM_THREADS", std::atoi(argv[2]) == 1 ? "2" : "1", 1);
  Stops stops({argv[1], std::atoi(argv[2]), argc > 4 ? argv[4] : "", directory});
  stops.prepare();
  int failures = 0;
  const int count = std::atoi(argv[3]);
  for (int i = 0; i < count; ++i) {
    const std::string failure = stops.stop(i);
    if (failure.empty()) continue;
    ++failures;
    fmt::print("{}\n", failure);
    std::fflush(stdout);
  }
  fmt::print("{} stops of {} ranks, {} failed; {} runs had reached their last step\n", count, argv[2], failures,
             stops.late());
  std::filesystem::remove_all(directory);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace lexring

int main(int argc, char** argv) {
  try {
    return lexring::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
