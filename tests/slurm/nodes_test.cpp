// Jobs that lose nodes, on a Slurm cluster of three hosts. Each job is submitted once and touched no more. Of failures
// it is recorded what they cost (--gtest_output=xml:FILE).
#include <algorithm>

#include "tests/slurm/slurm_fixture.h"

namespace lexring {
namespace {

class LostNodes : public Slurm {
 protected:
  static constexpr const char* often = " --checkpoint.every 10";

  static void cluster(const std::string& words) {
    const auto done = run_process(fmt::format("{}/tests/slurm/cluster.sh {}", LEXRING_SOURCE_DIR, words));
    EXPECT_EQ(done.exit_code, 0) << words << ": " << done.output;
  }
  /// Every test begins with three idle hosts, so that its job is on n1 and those that follow.
  void SetUp() override {
    for (const int host : {1, 2, 3}) cluster(fmt::format("repair {}", host));
    wait_until([] { return occurrences(run_process("sinfo -h -N -p test -t idle -o %t").output, "idle\n") == 3; },
               "the hosts are not idle");
  }
  static std::string nodes_of(const std::string& id) { return field(id, "NodeList"); }

  static bool has_checkpoint(const std::string& name) {
    return std::filesystem::exists(directory(name) + "/step-00000010");
  }
  /// A job on `nodes` that `fail` reached between its first checkpoint and its last step; waits until its next step.
  /// Where nothing else runs, the last step may be done before: then again.
  std::string lose_midway(const std::string& name, const std::string& nodes,
                          const std::function<std::string()>& submit_job, const std::function<void()>& fail) {
    for (int attempt = 1;; ++attempt) {
      const std::string id = submit_job();
      wait_until([&] { return has_checkpoint(name) || ended(id); }, "no checkpoint was written");
      EXPECT_EQ(nodes_of(id), nodes);
      const auto begin = std::chrono::steady_clock::now();
      fail();
      const auto done = steps_of(name);
      if (done.size() < static_cast<std::size_t>(steps) || attempt == 10) {
        wait_for_next_step(name, id, done, begin);
        return id;
      }
      finish(id);
      std::filesystem::remove_all(directory(name));
      SetUp();
    }
  }
  void wait_for_next_step(const std::string& name, const std::string& id, const std::vector<json>& done,
                          std::chrono::steady_clock::time_point begin) {
    std::size_t resumed = 0;
    wait_until(
        [&] {
          hasten(id);
          const std::string log = log_of(id);
          std::smatch match;
          if (!std::regex_search(log, match, std::regex("resumed from .*step-([0-9]+)"))) return ended(id);
          resumed = std::stoul(match[1]);
          const std::size_t now = steps_of(name).size();  // those that are lost are still there for a moment
          return (now > resumed && now != done.size()) || ended(id);
        },
        "it did not go on:\n" + log_of(id));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    double lost = 0;
    for (std::size_t i = resumed; i < done.size(); ++i) lost += done[i]["seconds"].get<double>();
    RecordProperty(name + "_lost_steps", static_cast<int>(done.size() - resumed));
    RecordProperty(name + "_lost_seconds", fmt::format("{:.1f}", lost));
    RecordProperty(name + "_seconds_to_next_step", fmt::format("{:.1f}", seconds.count()));
  }
  /// A job that was requeued need not wait for Slurm's next round.
  static void hasten(const std::string& id) {
    if (field(id, "JobState") == "PENDING") run_process("scontrol update JobId=" + id + " StartTime=now");
  }
  /// Slurm refuses comments on a job that has lost a node where there is no slurmdbd: the log is looked at.
  static void expect_finished(const Job& job, const std::string& how = "finished") {
    EXPECT_EQ(job.state, "COMPLETED") << job.log;
    EXPECT_EQ(occurrences(job.log, fmt::format("job {}: {}\n", job.id, how)), 1) << job.log;
  }
  static std::string comment_of(const std::string& id) {
    const auto shown = run_process("scontrol show job " + id).output;
    std::smatch match;
    return std::regex_search(shown, match, std::regex("\n *Comment=([^\n]*?) *\n")) ? match[1].str() : "";
  }
};

TEST_F(LostNodes, ASpareTakesTheirPlaceAndTheNumbersAreTheSame) {
  write_site("spare.env", "LEXRING_SPARES=1\n");
  const auto job_of_three = [] { return submit("-N 3 --ntasks-per-node 2", pretrain("spare") + often, "spare.env"); };
  const std::string id = lose_midway("spare", "n[1-3]", job_of_three, [] { cluster("cut 2"); });
  const Job job = finish(id);
  expect_finished(job);
  EXPECT_NE(job.log.find("started again on n[1,3]"), std::string::npos) << job.log;
  EXPECT_EQ(field(id, "Restarts"), "0");
  expect_same_losses("spare", "four", 0);
}

TEST_F(LostNodes, WithoutASpareThoseThatAreLeftGoOn) {
  const std::string script =
      fmt::format("jobs/slurm/pretrain.sbatch {} --data.train {} --checkpoint.directory {} --mesh.cp 3{}", config(),
                  data(), directory("elastic"), often);
  const auto job_of_three = [&] { return submit("-N 3 --ntasks-per-node 1", script); };
  const std::string id = lose_midway("elastic", "n[1-3]", job_of_three, [] { cluster("cut 3"); });
  const Job job = finish(id);
  expect_finished(job, "finished on n[1-2], 2 of 3 nodes (--mesh.dp 1 --mesh.cp 2)");
  EXPECT_EQ(field(id, "Restarts"), "0");
  expect_same_losses("elastic", "one", 1e-5);
}

/// With --no-kill, Slurm does not notice that nothing of the job is left.
TEST_F(LostNodes, WithTheNodeOfTheScriptTheJobIsQueuedAgain) {
  const auto job_of_two = [] { return submit(four_ranks, pretrain("batch_host") + often); };
  const std::string id = lose_midway("batch_host", "n[1-2]", job_of_two, [] { cluster("cut 1"); });
  const Job job = finish(id);
  expect_finished(job);
  EXPECT_EQ(nodes_of(id), "n[2-3]");
  expect_same_losses("batch_host", "four", 0);
}

TEST_F(LostNodes, ACableThatIsOutForFiveSecondsCostsNoMoreThanThat) {
  const std::string id = submit(four_ranks, pretrain("five_seconds") + often);
  wait_until([&] { return has_checkpoint("five_seconds") || ended(id); }, "no checkpoint was written");
  cluster("unplug 2");
  std::this_thread::sleep_for(std::chrono::seconds(5));
  cluster("plug 2");
  expect_finished(finish(id));
  expect_same_losses("five_seconds", "four", 0);
  double longest = 0;
  for (const json& step : steps_of("five_seconds")) longest = std::max(longest, step["seconds"].get<double>());
  RecordProperty("five_seconds_starts", starts(id));
  RecordProperty("five_seconds_longest_step", fmt::format("{:.1f}", longest));
}

/// Where fewer nodes are not wanted the job waits for others; the evaluation waits for the job.
TEST_F(LostNodes, AChainGoesThroughToItsReportWhenACableIsOutForGood) {
  write_site("rigid.env", "LEXRING_ELASTIC=no\n");
  const std::string command = fmt::format(
      "cd {} && . {} && SBATCH_OUTPUT={} LEXRING_SITE={} jobs/slurm/chain.sh --sbatch='{}' {} {}{} -- --data {} "
      "--lengths 64,256 --tokens 4096 --resolution 0 {}",
      LEXRING_SOURCE_DIR, site("rigid.env"), directory("job-%j.log"), site("rigid.env"), four_ranks, config(),
      keys("chain"), often, data(), mesh);
  std::string training_id, evaluation_id;
  const auto chain = [&] {
    const std::string output = run_process(command).output;
    std::smatch ids;
    EXPECT_TRUE(std::regex_search(output, ids, std::regex("pretraining: job ([0-9]+)\nevaluation: job ([0-9]+), of")))
        << output;
    training_id = ids[1], evaluation_id = ids[2];
    return training_id;
  };
  lose_midway("chain", "n[1-2]", chain, [] { cluster("unplug 2"); });
  const Job training = finish(training_id);
  expect_finished(training);
  EXPECT_NE(training.log.find("1 of 2 nodes are left, too few; waits for others"), std::string::npos) << training.log;
  expect_same_losses("chain", "four", 0);
  expect_finished(finish(evaluation_id));
  EXPECT_TRUE(std::filesystem::exists(directory("chain") + "/report.html"));
}

TEST_F(LostNodes, ANodeWhoseRanksDiedTwiceIsLeftOut) {
  write_site("spare.env", "LEXRING_SPARES=1\n");
  const std::string id = submit("-N 3 --ntasks-per-node 2", pretrain("twice") + " --checkpoint.every 5", "spare.env");
  for (const int time : {1, 2}) {
    wait_until(
        [&] {
          return (steps_of("twice").size() > 8 && occurrences(log_of(id), "resumed from") == time - 1) || ended(id);
        },
        "it was not under way");
    signal_rank(id, 3, "KILL");
    wait_until([&] { return starts(id) > time || ended(id); }, "it did not start again");
  }
  EXPECT_EQ(comment_of(id), "failed with exit code 137, started again on n[1,3], leaving out n2");
  const Job job = finish(id);
  expect_finished(job);
  EXPECT_EQ(occurrences(job.log, "started again on n[1-2]"), 1) << job.log;
  EXPECT_EQ(occurrences(job.log, "started again on n[1,3], leaving out n2"), 1) << job.log;
  expect_same_losses("twice", "four", 0);
}

TEST_F(LostNodes, AMachineThatComputesWrongNumbersIsLeftOutAtOnce) {
  write_stand_in("sums", "echo 'machine n2: its sums differ from those of the others' >&2; exit 4");
  std::ofstream(site("sums.env"), std::ios::app) << "LEXRING_SPARES=1\n";
  const Job job = run_job("-N 3 --ntasks-per-node 2", pretrain("sums"), "sums.env");
  expect_finished(job);
  EXPECT_EQ(occurrences(job.log, "failed with exit code 4, started again on n[1,3], leaving out n2"), 1) << job.log;
  expect_same_losses("sums", "four", 0);
}

}  // namespace
}  // namespace lexring
