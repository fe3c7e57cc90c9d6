#include "jobs/study/processes.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "datasets/prepare.h"
#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stop_signal.h"

namespace lexring {
namespace {

constexpr std::chrono::milliseconds pause(100);

/// This process's environment, with its number of threads.
std::vector<std::string> environment(int threads) {
  std::vector<std::string> variables;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string variable = *at;
    if (!variable.starts_with("OMP_NUM_THREADS=")) variables.push_back(variable);
  }
  variables.push_back(fmt::format("OMP_NUM_THREADS={}", threads));
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

/// Starts this program anew; what it says is added to `log`.
pid_t start(const std::vector<std::string>& words, const std::filesystem::path& log, int threads) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::vector<std::string> arguments = {program}, variables = environment(threads);
  arguments.insert(arguments.end(), words.begin(), words.end());
  std::ofstream(log, std::ios::app) << fmt::format("lexring {}\n", fmt::join(words, " "));

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);  // ours are blocked for SignalThread
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t process = 0;
  const int error = posix_spawn(&process, program.c_str(), &files, &attributes, pointers(arguments).data(),
                                pointers(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  require(error == 0, "{} cannot be started: {}", program, std::strerror(error));
  return process;
}

/// What the job said last, for who reads no log.
std::string last_line(const std::filesystem::path& log) {
  std::ifstream stream(log);
  std::string last;
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

class Runner {
 public:
  Runner(std::vector<StudyJob>& jobs, const StudyDirectory& directory, int parallel)
      : jobs_(jobs),
        directory_(directory),
        parallel_(static_cast<std::size_t>(parallel)),
        threads_(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / parallel)),
        states_(jobs.size(), State::waiting),
        bar_("study", "job", jobs.size(), already_done(jobs)) {
    for (std::size_t i = 0; i < jobs.size(); ++i) states_[i] = jobs[i].done ? State::done : State::waiting;
  }

  StudyEnd run() {
    while (true) {
      const int signal = stop_.number();
      if (signal == 0) start_what_can();
      else pass_on(signal);
      if (running_.empty()) break;
      std::this_thread::sleep_for(pause);
      reap();
      bar_.update(count(State::done), note());
    }
    bar_.finish(failures_.empty() ? "" : fmt::format("{} failed", counted(std::ssize(failures_), "job")));
    return {stop_.received(), failures_};
  }

 private:
  enum class State { waiting, running, done, stopped, failed };
  struct Running {
    std::size_t job;
    pid_t process;
  };

  /// By a wish to stop: with what it goes on from, or before it had begun.
  static bool was_stopped(int status) {
    if (WIFEXITED(status)) return WEXITSTATUS(status) == exit_code::to_be_continued;
    const int signal = WTERMSIG(status);
    return signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGUSR1;
  }
  static std::uint64_t already_done(const std::vector<StudyJob>& jobs) {
    return static_cast<std::uint64_t>(
        std::count_if(jobs.begin(), jobs.end(), [](const StudyJob& job) { return job.done; }));
  }
  std::uint64_t count(State state) const {
    return static_cast<std::uint64_t>(std::count(states_.begin(), states_.end(), state));
  }

  void start_what_can() {
    for (std::size_t i = 0; i < jobs_.size() && running_.size() < parallel_; ++i) {
      if (states_[i] != State::waiting) continue;
      const StudyJob& job = jobs_[i];
      if (job.after && states_[*job.after] == State::failed) {
        states_[i] = State::failed;
        failures_.push_back({job.name, jobs_[*job.after].name + " failed"});
      } else if (!job.after || states_[*job.after] == State::done) {
        prepare(job, directory_);
        running_.push_back({i, start(job.words, directory_.log(job.name), threads_)});
        states_[i] = State::running;
      }
    }
  }

  void pass_on(int signal) {
    if (passed_on_) return;
    passed_on_ = true;
    say("study: told to stop (signal {}); trainings write a checkpoint, evaluations keep what is done\n", signal);
    for (const Running& one : running_) ::kill(one.process, SIGTERM);
  }

  void reap() {
    std::erase_if(running_, [&](const Running& one) {
      int status = 0;
      const pid_t ended = ::waitpid(one.process, &status, WNOHANG);
      if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
      StudyJob& job = jobs_[one.job];
      job.done = ended == one.process && WIFEXITED(status) && WEXITSTATUS(status) == 0;
      states_[one.job] = job.done                                  ? State::done
                         : stop_.received() && was_stopped(status) ? State::stopped
                                                                   : State::failed;
      if (states_[one.job] == State::failed) {
        const std::string end = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                                  : fmt::format("signal {}", WTERMSIG(status));
        failures_.push_back({job.name, fmt::format("{}: {}", end, last_line(directory_.log(job.name)))});
      }
      return true;
    });
  }

  /// "train-rope-seed1 120/800, evaluate-alibi-seed1".
  std::string note() const {
    std::vector<std::string> parts;
    for (const Running& one : running_) {
      const StudyJob& job = jobs_[one.job];
      parts.push_back(job.training() ? fmt::format("{} {}/{}", job.name, last_reported_step(job.output), job.steps)
                                     : job.name);
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  }

  std::vector<StudyJob>& jobs_;
  const StudyDirectory& directory_;
  std::size_t parallel_;
  int threads_;
  std::vector<State> states_;
  std::vector<Running> running_;
  std::vector<JobFailure> failures_;
  bool passed_on_ = false;
  StopSignal stop_;
  ProgressBar bar_;
};

}  // namespace

StudyLock::StudyLock(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const auto path = directory / "study.lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT, 0666);  // inherited by the processes that a study starts
  require(file_ >= 0, "{} cannot be written: {}; choose another --output", path.string(), std::strerror(errno));
  const StopSignal stop;
  bool said = false;
  while (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    if (!said)
      say("study: another one, or jobs of one that was killed, are at work in {}; waiting for their end\n",
          directory.string());
    said = true;
    if (stop.received()) {
      ::close(file_);
      throw Interrupted("stopped while waiting; nothing was begun");
    }
    std::this_thread::sleep_for(pause);
  }
}

StudyLock::~StudyLock() { ::close(file_); }

StudyEnd run_jobs(std::vector<StudyJob>& jobs, const StudyDirectory& directory, int parallel) {
  return Runner(jobs, directory, parallel).run();
}

}  // namespace lexring
