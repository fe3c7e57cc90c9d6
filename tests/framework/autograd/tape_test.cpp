#include "framework/autograd/tape.h"

#include <gtest/gtest.h>

#include "framework/nn/parameter.h"
#include "framework/ops/gelu.h"
#include "framework/ops/linear.h"

namespace lexring {
namespace {

class TapeTest : public ::testing::Test {
 protected:
  Tensor tensor(Shape shape, const std::vector<double>& values) {
    return Tensor::from(backend->runtime(), std::move(shape), values);
  }
  std::unique_ptr<Backend> backend = make_reference_backend();
};

TEST_F(TapeTest, StepsRunBackwardsAndOnce) {
  Tape tape(*backend, Recording::on);
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) tape.record([&order, i] { order.push_back(i); });
  tape.backward();
  EXPECT_EQ(order, (std::vector<int>{2, 1, 0}));
  tape.backward();
  EXPECT_EQ(order.size(), 3U);
}

TEST_F(TapeTest, RecordingOffRemembersNothing) {
  Tape tape(*backend, Recording::off);
  bool ran = false;
  tape.record([&ran] { ran = true; });
  tape.backward();
  EXPECT_FALSE(ran);
}

TEST_F(TapeTest, GradientsAddUpAndTheFirstIsTakenOver) {
  const Var x(tensor({2}, {1, 2}));
  const Tensor first = tensor({2}, {10, 20});
  x.accumulate(*backend, first);
  EXPECT_EQ(x.gradient().raw(), first.raw());
  x.accumulate(*backend, tensor({2}, {1, 1}));
  EXPECT_EQ(x.gradient().to_host<double>(), (std::vector<double>{11, 21}));
  EXPECT_THROW(x.accumulate(*backend, tensor({1}, {1})), Error);
  EXPECT_TRUE(x.take_gradient().defined());
  EXPECT_FALSE(x.gradient().defined());
}

TEST_F(TapeTest, ASlotDoesNotKeepTheValueAlive) {
  const std::size_t before = backend->runtime().memory().current;
  GradientSlot slot;
  {
    const Var x(Tensor(backend->runtime(), {1000}, Dtype::f64));
    slot = x.slot();
    EXPECT_GT(backend->runtime().memory().current, before);
  }
  EXPECT_EQ(backend->runtime().memory().current, before);
}

TEST_F(TapeTest, BackwardFreesWhatStepsHeld) {
  const std::size_t before = backend->runtime().memory().current;
  Tape tape(*backend, Recording::on);
  tape.record([kept = Tensor(backend->runtime(), {1000}, Dtype::f64)] { (void)kept; });
  EXPECT_GT(backend->runtime().memory().current, before);
  tape.backward();
  EXPECT_EQ(backend->runtime().memory().current, before);
}

TEST_F(TapeTest, RecomputeGivesTheSameGradientsBitForBit) {
  const std::vector<double> weights = {0.3, -0.5, 0.7, 0.2};
  std::vector<std::vector<double>> found;
  for (const bool replay : {false, true}) {
    const Weight weight{tensor({2, 2}, weights), tensor({2, 2}, {0, 0, 0, 0})};
    const auto body = [&](Tape& tape, const std::vector<Var>& in) {
      return std::vector<Var>{linear(tape, gelu(tape, in[0]), weight, {}), Var(), in[1]};
    };
    Tape tape(*backend, Recording::on);
    const Var x(tensor({3, 2}, {1, 2, -1, 0.5, 0.1, -2}));
    const Var passed(tensor({1}, {5}));
    const std::vector<Var> inputs = {x, passed, Var()};
    const std::vector<Var> out = replay ? recompute(tape, inputs, body) : body(tape, inputs);
    ASSERT_EQ(out.size(), 3U);
    EXPECT_FALSE(out[1].defined());
    out[0].accumulate(*backend, tensor({3, 2}, {1, -1, 2, 0.5, 0.25, 3}));
    out[2].accumulate(*backend, tensor({1}, {7}));
    tape.backward();
    EXPECT_EQ(passed.gradient().to_host<double>(), std::vector<double>{7});
    found.push_back(x.gradient().to_host<double>());
    found.push_back(weight.gradient.to_host<double>());
  }
  EXPECT_EQ(found[0], found[2]);
  EXPECT_EQ(found[1], found[3]);
}

TEST_F(TapeTest, RecomputeHoldsOnlyInputsAndOutputs) {
  Tape tape(*backend, Recording::on);
  const Var x(Tensor(backend->runtime(), {1000}, Dtype::f64));
  backend->fill(x.value(), 1.0);
  const std::size_t before = backend->runtime().memory().current;
  backend->runtime().reset_peak();
  const auto out = recompute(tape, {x}, [](Tape& inner, const std::vector<Var>& in) {
    Var v = in[0];
    for (int i = 0; i < 5; ++i) v = gelu(inner, v);
    return std::vector<Var>{v};
  });
  EXPECT_LE(backend->runtime().memory().current, before + 8000 + 64);
  EXPECT_LE(backend->runtime().memory().peak, before + 2 * (8000 + 64));  // one in, one out at a time
}

}  // namespace
}  // namespace lexring
