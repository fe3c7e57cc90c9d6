// What train.recompute = auto stands for, by the memory that is free.
#include "jobs/training/recompute_choice.h"

#include <gtest/gtest.h>

#include "framework/base/process_memory.h"
#include "jobs/launch/devices.h"
#include "jobs/training/memory.h"

namespace lexring {
namespace {

const std::vector<Recompute> in_order = {Recompute::none, Recompute::attention, Recompute::ffn, Recompute::layer};

StepShape shape_of(Recompute what) {
  StepShape shape;
  shape.model.vocab = 256;
  shape.model.layers = 6;
  shape.model.width = 256;
  shape.model.heads = shape.model.kv_heads = 4;
  shape.model.ffn_width = 1024;
  shape.mesh = make_mesh(1, 1, 1, 1);
  shape.length = 1024;
  shape.runtime.recompute = what;
  return shape;
}

double needed(Recompute what) { return step_memory(shape_of(what), DeviceType::cpu); }

TEST(RecomputeChoice, IsTheFirstThatFits) {
  for (std::size_t i = 0; i < in_order.size(); ++i) {
    const double enough = needed(in_order[i]) / 0.8 * 1.0001;
    if (i > 0) {
      EXPECT_LT(needed(in_order[i]), needed(in_order[i - 1]));
    }
    const RecomputeChoice choice = choose_recompute(shape_of(Recompute::none), DeviceType::cpu, enough);
    EXPECT_EQ(choice.recompute, in_order[i]);
    EXPECT_EQ(choice.why.find("; none takes") == std::string::npos, i == 0) << choice.why;
  }
  const RecomputeChoice choice = choose_recompute(shape_of(Recompute::none), DeviceType::cpu, 1 << 20);
  EXPECT_EQ(choice.recompute, Recompute::layer);
  EXPECT_NE(choice.why.find("more than the 1 MiB of 1 MiB"), std::string::npos) << choice.why;
}

TEST(RecomputeChoice, IsSettledOnce) {
  Options options = parse_options({"--train.recompute", "auto", "--model.vocab", "23", "--device", "reference"});
  const Context context;
  const auto backend = make_reference_backend();
  Transformer model(options.model, runtime_of(options), context, *backend);
  settle_recompute(options, model, context);
  EXPECT_EQ(options.train.recompute, Recompute::none) << "a small model";
  options.train.recompute = Recompute::ffn;
  settle_recompute(options, model, context);
  EXPECT_EQ(options.train.recompute, Recompute::ffn) << "what is chosen stays";
}

TEST(RecomputeChoice, KnowsWhatIsFree) {
  const Context context;
  const auto backend = make_reference_backend();
  const double free = free_memory(backend->runtime(), context.world());
  EXPECT_GT(free, 1 << 20);
  EXPECT_NEAR(free / (1 << 20), available_memory_mib(), 0.2 * available_memory_mib()) << "others take and give back";
}

}  // namespace
}  // namespace lexring
