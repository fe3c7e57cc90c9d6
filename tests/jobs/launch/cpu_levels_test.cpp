// Every level of vector instructions that this machine has, the lower ones included: kernels against the reference,
// golden cases in all precisions, training in both, and the quickstart's configuration. So a machine with AVX-512 also
// proves AVX2.
#include <functional>

#include <gtest/gtest.h>

#include "framework/backend/cpu_backend.h"
#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class CpuLevels : public JobTest {
 protected:
  static std::string done(const std::string& command, int limit = 300) {
    const ProcessResult result = run_process(command, limit);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  static void at_each(const std::function<void(const std::string& level)>& body) {
    for (const CpuLevel level : cpu_levels()) {
      SCOPED_TRACE(name_of(level));
      body(name_of(level));
    }
  }
};

/// Levels below the highest: tests at that one are entries of their own.
class LowerCpuLevels : public CpuLevels, public ::testing::WithParamInterface<CpuLevel> {
 public:
  static std::vector<CpuLevel> all() {
    std::vector<CpuLevel> levels = cpu_levels();
    levels.pop_back();
    return levels;
  }
};

TEST_P(LowerCpuLevels, KernelsEqualTheReference) {
  const std::string level = name_of(GetParam());
  const std::string output =
      done("OMP_WAIT_POLICY=passive " LEXRING_BACKEND_TEST " --cpu.isa=" + level + " --gtest_brief=1");
  EXPECT_EQ(occurrences(output, "cpu (" + level + ")"), 1) << output;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LowerCpuLevels);
INSTANTIATE_TEST_SUITE_P(Each, LowerCpuLevels, ::testing::ValuesIn(LowerCpuLevels::all()),
                         [](const auto& level) { return std::string(name_of(level.param)); });

TEST_F(CpuLevels, GoldenCases) {
  at_each([](const std::string& level) {
    for (const std::string precision : {"fp32", "bf16"}) {
      const std::string output = done(
          binary() + " verify --strict --golden " LEXRING_SOURCE "/tests/models/golden/lex_everything.h5 --device cpu" +
          " --precision " + precision + " --cpu.isa " + level);
      EXPECT_EQ(occurrences(output, "1 passed, 0 failed, 0 not supported"), 1) << output;
    }
  });
}

TEST_F(CpuLevels, TrainTheSame) {
  at_each([](const std::string& level) {
    for (const std::string precision : {"fp32", "bf16"}) {
      const std::string name = level + precision;
      const std::string output =
          done(train(name, "--train.steps 8 --train.precision " + precision + " --cpu.isa " + level));
      EXPECT_EQ(occurrences(output, "cpu (" + level + ") " + precision), 1) << output;
      const auto here = metrics(name), lowest = metrics(name_of(cpu_levels().front()) + precision);
      ASSERT_EQ(here.size(), 8U);
      const double tolerance = precision == "fp32" ? 1e-5 : 1e-2;  // rounding differs, and grows in training
      for (std::size_t i = 0; i < here.size(); ++i) {
        EXPECT_NEAR(here[i]["loss"].get<double>(), lowest[i]["loss"].get<double>(), tolerance) << "step " << i + 1;
      }
    }
  });
}

TEST_F(CpuLevels, TheQuickstartsConfigurationChoosesItsPrecision) {
  at_each([](const std::string& level) {
    const std::string output = done(
        binary() + " train --config " LEXRING_SOURCE "/configs/quickstart.ini --train.minutes 0 --train.steps 2 " +
        "--train.batch 2 --checkpoint.directory " + run(level) + " --data.train " + data() + " --cpu.isa " + level);
    const std::string chosen = level == "avx512_bf16" ? "bf16" : "fp32";
    EXPECT_EQ(occurrences(output, "train.precision = " + chosen + ": cpu (" + level + ")"), 1) << output;
    std::ifstream stream(run(level) + "/config.ini");
    const std::string stored((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    EXPECT_EQ(occurrences(stored, "\nprecision = " + chosen + "\n"), 1) << stored;
  });
}

/// A wait policy, or the program starts itself once more (jobs/launch/wait_policy.h), which leads out of the emulation.
/// Processors that this machine is not, of 2008 and 2013, by emulation: the binary must not meet an instruction that
/// they lack.
TEST_F(CpuLevels, OlderProcessorsRunTheSameBinary) {
  if (run_process("command -v qemu-x86_64").exit_code != 0) GTEST_SKIP() << "needs qemu-x86_64 (Debian's qemu-user)";
  for (const auto& [processor, level] : {std::pair{"Nehalem", "baseline"}, std::pair{"Haswell", "avx2"}}) {
    const std::string emulated = std::string("OMP_WAIT_POLICY=passive qemu-x86_64 -cpu ") + processor + " " + binary();
    const std::string output = done(emulated + " verify --strict --golden " LEXRING_SOURCE
                                               "/tests/models/golden/lex_everything.h5 --device cpu --precision bf16");
    EXPECT_EQ(occurrences(output, "1 passed, 0 failed, 0 not supported"), 1) << output;
    EXPECT_EQ(occurrences(output, std::string("cpu (") + level + ") bf16"), 1) << output;
  }
}

/// A cluster of unlike nodes: replicas must compute the same bits.
TEST_F(CpuLevels, RanksTakeTheLowestLevelAmongThem) {
  if (run_process("command -v qemu-x86_64").exit_code != 0) GTEST_SKIP() << "needs qemu-x86_64 (Debian's qemu-user)";
  const std::string command = train("mixed", "--train.steps 3 --train.precision fp32 --mesh.cp 2");
  const std::string output = done("OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_WAIT_POLICY=passive " + mpirun(1) +
                                  command + " : -n 1 qemu-x86_64 -cpu Nehalem " + command);
  if (cpu_levels().back() != CpuLevel::baseline) {
    EXPECT_EQ(occurrences(output, "cpu.isa = baseline on all ranks: rank 1 on "), 1) << output;
  }
  EXPECT_EQ(occurrences(output, "cpu (baseline) fp32"), 1) << output;
  EXPECT_EQ(metrics("mixed").size(), 3U);
}

TEST_F(CpuLevels, ALevelThatIsNotHereIsRefused) {
  if (cpu_levels().back() != CpuLevel::avx512_bf16) {
    const ProcessResult result = run_process(binary() + " bench --steps 1 --device cpu --cpu.isa avx512_bf16");
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(occurrences(result.output, std::string("choose cpu.isa = auto or ") + name_of(cpu_levels().back())), 1)
        << result.output;
  }
  EXPECT_EQ(run_process(binary() + " bench --cpu.isa mmx").exit_code, 2);
}

}  // namespace
}  // namespace lexring
