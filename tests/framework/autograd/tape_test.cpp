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
    const Weight inner{tensor({2, 2}, weights), tensor({2, 2}, {0, 0, 0, 0})};
    const Weight last{tensor({2, 2}, {-0.1, 0.6, 0.9, -0.4}), tensor({2, 2}, {0, 0, 0, 0})};
    const StretchBody body = [&](Tape& tape, const std::vector<Var>& in) {
      return StretchOutputs{{in[1], Var()}, gelu(tape, linear(tape, gelu(tape, in[0]), inner, {}))};
    };
    Tape tape(*backend, Recording::on);
    const Var x(tensor({3, 2}, {1, 2, -1, 0.5, 0.1, -2}));
    const Var passed(tensor({1}, {5}));
    const std::vector<Var> inputs = {x, passed, Var()};
    const StretchOutputs out = replay ? recompute(tape, inputs, body) : body(tape, inputs);
    ASSERT_EQ(out.kept.size(), 2U);
    EXPECT_FALSE(out.kept[1].defined());
    const Var y = linear(tape, out.operand, last, {});
    y.accumulate(*backend, tensor({3, 2}, {1, -1, 2, 0.5, 0.25, 3}));
    out.kept[0].accumulate(*backend, tensor({1}, {7}));
    tape.backward();
    EXPECT_EQ(passed.gradient().to_host<double>(), std::vector<double>{7});
    for (const Tensor& gradient : {x.gradient(), inner.gradient, last.gradient})
      found.push_back(gradient.to_host<double>());
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(found[i], found[i + 3]);
}

TEST_F(TapeTest, AStretchIsReplayedOnceAlsoWhereNobodyAsksForItsOperand) {
  for (const bool trained : {false, true}) {
    const Weight weight{tensor({2, 2}, {1, 0, 0, 1}), trained ? tensor({2, 2}, {0, 0, 0, 0}) : Tensor()};
    int passes = 0, computed = 0;
    Tape tape(*backend, Recording::on);
    const Var x(tensor({1, 2}, {1, 2}));
    const StretchOutputs out = recompute(tape, {x}, [&](Tape& inner, const std::vector<Var>& in) {
      ++passes;
      const auto twice = [&] {
        return inner.once([&] {
          ++computed;
          return std::vector<Tensor>{tensor({1, 2}, {10.0 * computed, 1})};
        });
      };
      EXPECT_EQ(twice().front().to_host<double>().front(), 10);
      EXPECT_EQ(twice().front().to_host<double>().front(), 20);
      return StretchOutputs{{}, gelu(inner, in[0])};
    });
    linear(tape, out.operand, weight, {}).accumulate(*backend, tensor({1, 2}, {1, 1}));
    tape.backward();
    EXPECT_EQ(passes, 2);
    EXPECT_EQ(computed, 2);
    EXPECT_TRUE(x.gradient().defined());
  }
}

TEST_F(TapeTest, OneStepKeepsTheOperandBehindAStretch) {
  const Weight weight{tensor({2, 2}, {1, 0, 0, 1}), tensor({2, 2}, {0, 0, 0, 0})};
  Tape tape(*backend, Recording::on);
  const auto body = [](Tape& inner, const std::vector<Var>& in) { return StretchOutputs{{}, gelu(inner, in[0])}; };
  const StretchOutputs out = recompute(tape, {Var(tensor({1, 2}, {1, 2}))}, body);
  for (int i = 0; i < 2; ++i) linear(tape, out.operand, weight, {}).accumulate(*backend, tensor({1, 2}, {1, 1}));
  EXPECT_THROW(tape.backward(), Error);
}

TEST_F(TapeTest, RecomputeHoldsOnlyInputsOutputsAndWhatIsComputedOnce) {
  Tape tape(*backend, Recording::on);
  const Var x(Tensor(backend->runtime(), {1000}, Dtype::f64));
  backend->fill(x.value(), 1.0);
  constexpr std::size_t one = 8000 + 64;
  const std::size_t before = backend->runtime().memory().current;
  backend->runtime().reset_peak();
  {
    const auto out = recompute(tape, {x}, [](Tape& inner, const std::vector<Var>& in) {
      Var v = in[0];
      inner.once([&] { return std::vector<Tensor>{Tensor(inner.runtime(), {1000}, Dtype::f64)}; });
      for (int i = 0; i < 5; ++i) v = gelu(inner, v);
      return StretchOutputs{{v}, gelu(inner, v)};
    });
    EXPECT_LE(backend->runtime().memory().current, before + 3 * one);
    EXPECT_LE(backend->runtime().memory().peak, before + 3 * one);  // one in, one out at a time
  }
  EXPECT_LE(backend->runtime().memory().current, before + one) << "the step remembers no outputs";
}

}  // namespace
}  // namespace lexring
