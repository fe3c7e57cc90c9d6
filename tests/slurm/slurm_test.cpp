// Jobs of jobs/slurm/ on a Slurm cluster of two hosts, n1 and n2: the same numbers as without Slurm, and launches that
// cannot be right are refused. Started by cluster.sh.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <regex>
#include <thread>

#include <fmt/format.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

using nlohmann::json;

const std::string mesh = "--mesh.cp 2 --mesh.tp 2";
const std::string four_ranks = "-N 2 --ntasks-per-node 2";
constexpr int steps = 120;

class Slurm : public JobTest {
 protected:
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
                       name == "one" ? "" : " " + mesh);
  }
  static std::string site(const std::string& name) { return (shared() / name).string(); }
  static void write_site(const std::string& name, const std::string& settings) {
    std::ofstream(site(name)) << "LEXRING_BINARY=" << binary() << "\nLEXRING_THREADS=1\n" << settings;
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
    const auto made =
        run_process(fmt::format("cd {} && LEXRING_SITE={} sbatch --parsable --output {} {} {}", LEXRING_SOURCE_DIR,
                                site(site_file), directory("job-%j.log"), options, script));
    EXPECT_EQ(made.exit_code, 0) << made.output;
    return made.output.substr(0, made.output.find_first_of(";\n"));
  }
  static void wait_until(const std::function<bool()>& done, const std::string& what) {
    for (int i = 0; i < 6000 && !done(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_TRUE(done()) << what;
  }
  static bool ended(const std::string& id) {
    const std::string state = field(id, "JobState");
    return state != "PENDING" && state != "RUNNING" && state != "COMPLETING" && state != "CONFIGURING";
  }
  static Job finish(const std::string& id) {
    wait_until([&] { return ended(id); }, "job " + id + " did not end:\n" + log_of(id));
    const std::string code = field(id, "ExitCode");  // exit:signal
    return {id, field(id, "JobState"), std::atoi(code.c_str()), log_of(id)};
  }
  static Job run_job(const std::string& options, const std::string& script, const std::string& site_file = "site.env") {
    return finish(submit(options, script, site_file));
  }
  /// To a task of the job's step: the hosts' processes are seen from here.
  static void signal_rank(int rank, const std::string& signal) {
    const auto sent = run_process(
        fmt::format("for p in $(pgrep -f '^{} train'); do grep -qz '^SLURM_PROCID={}$' /proc/$p/environ && kill -{} $p "
                    "&& echo sent; done; true",
                    std::filesystem::canonical(binary()).string(), rank, signal));  // as the job script finds it
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
      const std::string id = submit(four_ranks + " " + options, pretrain(name) + more_keys);
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

TEST_F(Slurm, PretrainsOnTwoHostsAsWithoutSlurm) {
  const Job job = run_job(four_ranks, pretrain("two_hosts"));
  ASSERT_EQ(job.exit_code, 0) << job.log;
  EXPECT_NE(job.log.find("2 nodes (n[1-2]) x 2 ranks x 1 threads, by srun"), std::string::npos) << job.log;
  EXPECT_NE(job.log.find("ranks 0-1 on n1, 2-3 on n2"), std::string::npos) << job.log;
  expect_same_losses("two_hosts", "four", 0);
  expect_same_losses("two_hosts", "one", 1e-5);
}

TEST_F(Slurm, RanksAndThreadsComeFromTheSiteUnlessSbatchIsToldThem) {
  write_site("two_ranks.env", "LEXRING_RANKS_PER_NODE=2\nLEXRING_LAUNCHER=mpirun\n");
  const Job job = run_job("-N 2", pretrain("mpirun"), "two_ranks.env");
  ASSERT_EQ(job.exit_code, 0) << job.log;
  EXPECT_NE(job.log.find("2 nodes (n[1-2]) x 2 ranks x 1 threads, by mpirun"), std::string::npos) << job.log;
  expect_same_losses("mpirun", "four", 0);
}

TEST_F(Slurm, EvaluatesOnTwoHostsAsWithoutSlurm) {
  const std::string evaluation = fmt::format("--data {} --lengths 64,256 --tokens 4096 --resolution 0", data());
  const Job job = run_job(four_ranks, fmt::format("jobs/slurm/evaluate.sbatch {} {} {} --output {}", directory("four"),
                                                  evaluation, mesh, directory("by_slurm")));
  ASSERT_EQ(job.exit_code, 0) << job.log;
  const auto alone = run_process(fmt::format("{} evaluate --checkpoint {} {} --output {}", binary(), directory("four"),
                                             evaluation, directory("by_hand")));
  ASSERT_EQ(alone.exit_code, 0) << alone.output;
  const auto read = [](const std::string& name) {
    return json::parse(std::ifstream(directory(name) + "/results.json"));
  };
  const json ours = read("by_slurm"), expected = read("by_hand");
  ASSERT_EQ(ours["ranks"], 4);
  ASSERT_EQ(ours["series"].size(), 2U);
  for (std::size_t p = 0; p < 2; ++p) {
    ASSERT_EQ(ours["series"][p]["cells"].size(), 2U);
    for (std::size_t c = 0; c < 2; ++c) {
      const double loss = ours["series"][p]["cells"][c]["loss"], other = expected["series"][p]["cells"][c]["loss"];
      EXPECT_NEAR(loss, other, 1e-5 * other);
    }
  }
}

/// Stops that are to be followed by going on, without a hand, to the numbers of a run that nobody stopped.
TEST_F(Slurm, GoesOnByItself) {
  const std::vector<std::pair<std::string, std::function<void(const std::string& id)>>> stops = {
      // What Slurm does for --signal=B:USR1@300, which counts in minutes.
      {"time_limit", [](const std::string& id) { run_process("scancel --batch --signal=USR1 " + id); }},
      {"terminated", [](const std::string& id) { run_process("scancel --signal=TERM " + id); }},
      {"requeued", [](const std::string& id) { run_process("scontrol requeue " + id); }},
      {"preempted",
       [](const std::string&) {
         const std::string urgent = submit("--partition urgent -N 2 --exclusive", "--wrap 'sleep 1'");
         EXPECT_EQ(finish(urgent).state, "COMPLETED");
       }},
  };
  for (const auto& [name, stop] : stops) {
    SCOPED_TRACE(name);
    const Job job = stopped_midway(name, stop, "", name == "terminated" ? " --resume none" : "");
    ASSERT_EQ(job.state, "COMPLETED") << job.log;
    EXPECT_GE(std::atoi(field(job.id, "Restarts").c_str()), 1) << job.log;
    EXPECT_EQ(field(job.id, "Comment"), "finished") << job.log;
    EXPECT_GE(occurrences(job.log, "resumed from"), name == "requeued" ? 0 : 1) << job.log;
    EXPECT_FALSE(std::filesystem::exists(directory(name) + "/turn"));
    expect_same_losses(name, "four", 0);
  }
}

TEST_F(Slurm, WithoutRequeueingItStopsBeforeTheTimeIsUpAndGoesOnByTheSameCommand) {
  const auto stop = [](const std::string& id) {
    EXPECT_EQ(run_process("scancel --batch --signal=USR1 " + id).exit_code, 0);
  };
  const Job stopped = stopped_midway("stopped", stop, "--no-requeue");
  ASSERT_EQ(stopped.exit_code, 75) << stopped.log;
  ASSERT_LT(steps_of("stopped").size(), static_cast<std::size_t>(steps)) << "too fast to be stopped";
  const Job resumed = run_job(four_ranks, pretrain("stopped"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed from"), std::string::npos) << resumed.log;
  expect_same_losses("stopped", "four", 0);
}

TEST_F(Slurm, CancelledByHandItGoesOnToo) {
  const Job cancelled =
      stopped_midway("cancelled", [](const std::string& id) { EXPECT_EQ(run_process("scancel " + id).exit_code, 0); });
  ASSERT_LT(steps_of("cancelled").size(), static_cast<std::size_t>(steps)) << "too fast to be cancelled";
  EXPECT_EQ(cancelled.state, "CANCELLED") << cancelled.log;
  const Job resumed = run_job(four_ranks, pretrain("cancelled"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed from"), std::string::npos) << cancelled.log << resumed.log;
  expect_same_losses("cancelled", "four", 0);
}

/// At once and on the same nodes, without a turn in the queue.
TEST_F(Slurm, AfterTheDeathOfARankItStartsAgain) {
  const Job job = stopped_midway("killed", [](const std::string&) { signal_rank(3, "KILL"); });
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  EXPECT_NE(job.log.find("n2: task 3: Killed"), std::string::npos) << job.log;
  EXPECT_NE(job.log.find("failed with exit code 137, started again"), std::string::npos) << job.log;
  EXPECT_EQ(field(job.id, "Restarts"), "0");
  expect_same_losses("killed", "four", 0);
}

TEST_F(Slurm, WhatFailsAgainAndAgainIsGivenUp) {
  write_site("twice.env", "LEXRING_RESTARTS=2\n");
  const std::string script = pretrain("gone");
  const Job job = run_job(four_ranks, script + " --data.train " + directory("gone.h5"), "twice.env");
  EXPECT_EQ(job.state, "FAILED") << job.log;
  EXPECT_EQ(occurrences(job.log, "failed with exit code 1, started again"), 2) << job.log;
  EXPECT_EQ(occurrences(job.log, "given up after 2 restarts in a row without a new checkpoint"), 1) << job.log;
  EXPECT_FALSE(std::filesystem::exists(directory("gone")));
}

TEST_F(Slurm, ARankThatIsStoppedEndsTheJobAndIsNamed) {
  write_site("never.env", "LEXRING_RESTARTS=0\n");
  const std::string id =
      submit(four_ranks, pretrain("held") + " --train.steps 1000000 --watchdog.seconds 10", "never.env");
  wait_until([&] { return !steps_of("held").empty() || ended(id); }, "no step was written");
  signal_rank(3, "STOP");
  const auto start = std::chrono::steady_clock::now();
  const Job job = finish(id);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(200));
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("Rank 3 does not answer"), std::string::npos) << job.log;
}

/// Two methods, of which one begins with the other's weights, and one whose training fails, for a file is in its way.
TEST_F(Slurm, AStudyIsJobsThatWaitForWhatTheyNeed) {
  const std::string file = (shared() / "study.ini").string(), out = directory("study");
  std::ofstream(file) << "[study]\nseeds = 1\n[model]\nlayers = 1\nwidth = 32\nheads = 2\n[train]\nlength = 32\n"
                         "batch = 4\nsteps = 8\nprecision = fp32\n[evaluate]\nlengths = 32,64\ntokens = 1024\n"
                         "resolution = 0\n[method.rope]\nposition.kind = rope\n[method.tuned]\ninit = rope\n"
                         "position.kind = rope\n[method.broken]\nposition.kind = none\n";
  std::filesystem::create_directories(out + "/runs");
  std::ofstream(out + "/runs/broken-seed1") << "in the way";
  const std::string command = fmt::format(
      "cd {} && LEXRING_SITE={} {} study {} --data.train {} --data.valid {} --output {} --submit "
      "--sbatch='--ntasks-per-node=1 --exclusive --hold'",
      LEXRING_SOURCE_DIR, site("site.env"), binary(), file, data(), data(), out);
  const auto submitted = run_process(command);
  ASSERT_EQ(submitted.exit_code, 0) << submitted.output;
  std::map<std::string, std::string> ids;
  const std::regex line("([0-9]+)  ([a-z0-9-]+)\n");
  for (std::sregex_iterator at(submitted.output.begin(), submitted.output.end(), line); at != std::sregex_iterator();
       ++at)
    ids[(*at)[2]] = (*at)[1];
  ASSERT_EQ(ids.size(), 7U) << submitted.output;
  const auto again = run_process(command);  // Slurm has them all still
  EXPECT_EQ(occurrences(again.output, "  (submitted before)"), 7) << again.output;
  for (const auto& [name, id] : ids) EXPECT_EQ(run_process("scontrol release " + id).exit_code, 0) << name;

  const auto log = [&](const std::string& name) {
    std::ifstream stream(out + "/logs/" + name + ".log");
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  wait_until([&] { return ended(ids["tables"]); }, "the last job did not end");
  EXPECT_EQ(field(ids["tables"], "ExitCode"), "0:0") << log("tables");
  EXPECT_NE(log("train-tuned-seed1").find("runs/rope-seed1"), std::string::npos) << log("train-tuned-seed1");
  EXPECT_NE(field(ids["train-broken-seed1"], "ExitCode"), "0:0") << log("train-broken-seed1");
  EXPECT_EQ(field(ids["evaluate-broken-seed1"], "JobState"), "CANCELLED");
  std::ifstream table(out + "/table.csv");
  const std::string rows(std::istreambuf_iterator<char>(table), {});
  EXPECT_NE(rows.find("rope"), std::string::npos) << rows;
  EXPECT_NE(rows.find("tuned"), std::string::npos) << rows;

  // The same command submits what failed, and nothing else.
  const auto failed = run_process(command);
  EXPECT_NE(failed.output.find("train-broken-seed1"), std::string::npos) << failed.output;
  EXPECT_EQ(failed.output.find("rope"), std::string::npos) << failed.output;
}

TEST_F(Slurm, TensorParallelRanksAcrossNodesAreRefused) {
  const Job job =
      run_job(four_ranks, fmt::format("--wrap 'srun --mpi=pmix --distribution=cyclic {} train --config {} {}'",
                                      binary(), config(), keys("scattered")));
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("ranks of one group are on different nodes"), std::string::npos) << job.log;
  EXPECT_TRUE(steps_of("scattered").empty());
}

TEST_F(Slurm, ALaunchThatMakesSingletonsIsRefused) {
  write_site("no_pmix.env", "LEXRING_MPI_PLUGIN=none\n");
  const Job job = run_job(four_ranks, pretrain("singletons"), "no_pmix.env");
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("srun --mpi=pmix"), std::string::npos) << job.log;
  EXPECT_TRUE(steps_of("singletons").empty());
}

TEST_F(Slurm, ANumberOfRanksUnlikeSlurmsIsRefused) {
  const Job tasks = run_job("-N 2 -n 3", pretrain("unlike"));
  EXPECT_EQ(tasks.exit_code, 2);
  EXPECT_NE(tasks.log.find("the job has 3 tasks"), std::string::npos) << tasks.log;
  const Job fewer = run_job(
      four_ranks, fmt::format("--wrap 'mpirun -n 2 {} train --config {} {}'", binary(), config(), keys("unlike")));
  EXPECT_NE(fewer.exit_code, 0);
  EXPECT_NE(fewer.log.find("SLURM_NTASKS"), std::string::npos) << fewer.log;
  EXPECT_TRUE(steps_of("unlike").empty());
}

TEST_F(Slurm, MistakesAreNamedInTheLog) {
  const auto says = [](const std::string& script, const std::string& message, const std::string& site_file) {
    const Job job = run_job("-N 1", script, site_file);
    EXPECT_EQ(job.exit_code, 2);
    EXPECT_NE(job.log.find(message), std::string::npos) << job.log;
  };
  says(pretrain("mistake"), "copy jobs/slurm/site.env.example", "missing.env");
  says("jobs/slurm/pretrain.sbatch configs/none.ini", "there is no configuration configs/none.ini", "site.env");
  says("jobs/slurm/evaluate.sbatch --data x.h5", "the first argument is the run's directory", "site.env");
  says(pretrain("mistake") + " --model.layrs 3", "model.layers", "site.env");
  write_site("often.env", "LEXRING_RESTARTS=often\n");
  says(pretrain("mistake"), "LEXRING_RESTARTS = often is not a whole number", "often.env");
}

}  // namespace
}  // namespace lexring
