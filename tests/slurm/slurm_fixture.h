/// Jobs of jobs/slurm/ on a Slurm cluster that tests/slurm/cluster.sh made, with two references without Slurm: "one", a
/// training by one process, and "four", by four.
#pragma once

#include <chrono>
#include <cmath>
#include <functional>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {

class Slurm : public JobTest {
 protected:
  using json = nlohmann::json;
  static constexpr const char* mesh = "--mesh.cp 2 --mesh.tp 2";
  static constexpr const char* four_ranks = "-N 2 --ntasks-per-node 2";
  static constexpr int steps = 120;

  struct Job {
    std::string id, state;
    int exit_code = -1;
    std::string log;
  };

  static void SetUpTestSuite() {
    JobTest::SetUpTestSuite();
    std::ofstream(config())
        << "[model]\nlayers = 2\nwidth = 32\nheads = 4\nkv_heads = 2\n[attention]\npattern = blockwise\nblock = 16\n"
        << "[train]\nlength = 64\nbatch = 8\nsteps = " << steps << "\n[optimizer]\nwarmup = 20\nlr = 3e-4\n";
    write_site("site.env", "");
    const auto train = [](const std::string& launcher, const std::string& name) {
      const auto made = run_process(fmt::format("{}{} train --config {} {}", launcher, binary(), config(), keys(name)));
      ASSERT_EQ(made.exit_code, 0) << made.output;
    };
    train("", "one");
    train(mpirun(4), "four");
  }

  static std::string config() { return (shared() / "tiny.ini").string(); }
  static std::string directory(const std::string& name) { return (shared() / name).string(); }
  static std::string keys(const std::string& name) {
    return fmt::format("--data.train {} --checkpoint.directory {}{}", data(), directory(name),
                       name == "one" ? "" : std::string(" ") + mesh);
  }
  static std::string site(const std::string& name) { return (shared() / name).string(); }
  static void write_site(const std::string& name, const std::string& settings) {
    std::ofstream(site(name)) << "LEXRING_BINARY=" << binary()
                              << "\nLEXRING_THREADS=1\nexport SBATCH_EXCLUSIVE=exclusive\n"
                              << settings;
  }
  /// A site whose first training, of four ranks, is no training: rank 0 does `what` once the others are gone, as
  /// lexring does when all agree how to end.
  static void write_stand_in(const std::string& name, const std::string& what) {
    const std::string program = directory(name + ".sh");
    std::ofstream(program) << fmt::format(R"(#!/bin/bash
if [ "$1" = train ] && [ ! -e {0}.$SLURM_PROCID ]; then
  touch {0}.$SLURM_PROCID
  [ $SLURM_PROCID = 0 ] || exit 0
  until [ -e {0}.1 ] && [ -e {0}.2 ] && [ -e {0}.3 ]; do sleep 0.1; done
  {1}
fi
exec {2} "$@"
)",
                                          program, what, binary());
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    write_site(name + ".env", "LEXRING_BINARY=" + program + "\n");
  }

  static std::string field(const std::string& id, const std::string& name) {
    const auto shown = run_process("scontrol --oneliner show job " + id).output;
    std::smatch match;
    return std::regex_search(shown, match, std::regex("\\b" + name + "=(\\S*)")) ? match[1].str() : "";
  }
  static std::string log_of(const std::string& id) {
    std::ifstream stream(directory("job-" + id + ".log"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  /// As a person does from the root of the repository.
  static std::string submit(const std::string& options, const std::string& script,
                            const std::string& site_file = "site.env") {
    const auto made = run_process(
        fmt::format("cd {0} && {{ [ ! -f {1} ] || . {1}; }} && LEXRING_SITE={1} sbatch --parsable --output {2} {3} {4}",
                    LEXRING_SOURCE_DIR, site(site_file), directory("job-%j.log"), options, script));
    EXPECT_EQ(made.exit_code, 0) << made.output;
    return made.output.substr(0, made.output.find_first_of(";\n"));
  }
  static void wait_until(const std::function<bool()>& done, const std::string& what) {
    bool is_done = false;  // what is asked may be true for a moment only
    for (int i = 0; i < 6000 && !(is_done = done()); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_TRUE(is_done) << what;
  }
  static bool ended(const std::string& id) {
    const std::string state = field(id, "JobState");
    return !state.empty() && state != "PENDING" && state != "RUNNING" && state != "COMPLETING" &&
           state != "CONFIGURING";
  }
  /// How often the job has started lexring.
  static int starts(const std::string& id) { return occurrences(log_of(id), "\nlexring train "); }
  static Job finish(const std::string& id) {
    wait_until([&] { return ended(id); }, "job " + id + " did not end:\n" + log_of(id));
    const std::string code = field(id, "ExitCode");  // exit:signal
    return {id, field(id, "JobState"), std::atoi(code.c_str()), log_of(id)};
  }
  static Job run_job(const std::string& options, const std::string& script, const std::string& site_file = "site.env") {
    return finish(submit(options, script, site_file));
  }
  /// To a task of the job's step: the hosts' processes are seen from here.
  static void signal_rank(const std::string& id, int rank, const std::string& signal) {
    const auto sent = run_process(
        fmt::format("for p in $(pgrep -f '^{} train'); do grep -qz '^SLURM_JOB_ID={}$' /proc/$p/environ && "
                    "grep -qz '^SLURM_PROCID={}$' /proc/$p/environ && kill -{} $p && echo sent; done; true",
                    std::filesystem::canonical(binary()).string(), id, rank, signal));  // as the job script finds it
    EXPECT_EQ(sent.output, "sent\n");
  }
  static std::string pretrain(const std::string& name) {
    return "jobs/slurm/pretrain.sbatch " + config() + " " + keys(name);
  }

  /// A run that `stop` reached between its first step and its last. Where other programs have the processors, the first
  /// step may be seen when the last is done: then again.
  static Job stopped_midway(const std::string& name, const std::function<void(const std::string& id)>& stop,
                            const std::string& options = "", const std::string& more_keys = "") {
    for (int attempt = 1;; ++attempt) {
      std::filesystem::remove_all(directory(name));
      const std::string id = submit(fmt::format("{} {}", four_ranks, options), pretrain(name) + more_keys);
      wait_until([&] { return !steps_of(name).empty() || ended(id); }, "no step was written");
      stop(id);
      Job job = finish(id);
      const bool midway = steps_of(name).size() < static_cast<std::size_t>(steps) || field(id, "Restarts") != "0" ||
                          job.log.find("started again") != std::string::npos;
      if (midway || attempt == 10) return job;
    }
  }

  static std::vector<json> steps_of(const std::string& name) {
    std::ifstream stream(directory(name) + "/metrics.jsonl");
    std::vector<json> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
    return lines;
  }
  static void expect_same_losses(const std::string& name, const std::string& reference, double tolerance) {
    const auto ours = steps_of(name), theirs = steps_of(reference);
    ASSERT_EQ(ours.size(), static_cast<std::size_t>(steps));
    ASSERT_EQ(theirs.size(), ours.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const double loss = ours[i]["loss"], expected = theirs[i]["loss"];
      ASSERT_LE(std::abs(loss - expected), tolerance * std::abs(expected))
          << "step " << i + 1 << ": " << loss << " against " << expected;
      const double norm = ours[i]["gradient_norm"], expected_norm = theirs[i]["gradient_norm"];
      ASSERT_LE(std::abs(norm - expected_norm), 10 * tolerance * expected_norm) << "step " << i + 1;
    }
  }
};

}  // namespace lexring
