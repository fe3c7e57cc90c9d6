#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "framework/optim/adamw.h"
#include "framework/optim/clip.h"
#include "framework/optim/lr_schedule.h"

namespace lexring {
namespace {

TEST(LrSchedule, WarmsUpThenDecays) {
  LrSchedule s{.lr = 1.0, .warmup = 4, .steps = 14, .decay = Decay::linear, .power = 1, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(s, 0), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(s, 3), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4), 0.91);
  EXPECT_DOUBLE_EQ(learning_rate(s, 8), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(s, 13), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 1000), 0.1);
  s.decay = Decay::cosine;
  EXPECT_DOUBLE_EQ(learning_rate(s, 8), 0.55);
  EXPECT_NEAR(learning_rate(s, 5), 0.1 + 0.9 * 0.5 * (1 + std::cos(std::acos(-1.0) * 0.2)), 1e-12);
  s.decay = Decay::polynomial;
  s.power = 2;
  EXPECT_DOUBLE_EQ(learning_rate(s, 8), 0.1 + 0.9 * 0.25);
  s.decay = Decay::constant;
  EXPECT_DOUBLE_EQ(learning_rate(s, 13), 1.0);
}

TEST(LrSchedule, BothEndsAreReachedExactly) {
  const LrSchedule ten{.lr = 1.0, .steps = 10, .decay = Decay::linear, .final_fraction = 0.1};
  for (int step = 0; step < 10; ++step) EXPECT_NEAR(learning_rate(ten, step), 1.0 - 0.1 * step, 1e-15) << step;
  for (const Decay decay : {Decay::cosine, Decay::linear, Decay::polynomial}) {
    for (const std::int64_t warmup : {0, 1, 5, 9}) {
      const LrSchedule s{
          .lr = 3e-4, .warmup = warmup, .steps = 10, .decay = decay, .power = 1.5, .final_fraction = 0.07};
      EXPECT_EQ(learning_rate(s, std::max<std::int64_t>(warmup - 1, 0)), s.lr) << name_of(decay) << warmup;
      EXPECT_EQ(learning_rate(s, 9), s.lr * s.final_fraction) << name_of(decay) << warmup;
      EXPECT_EQ(learning_rate(s, 10), s.lr * s.final_fraction) << name_of(decay) << warmup;
    }
    for (const std::int64_t warmup : {10, 20}) {  // nothing is left to decay in
      const LrSchedule s{.lr = 1.0, .warmup = warmup, .steps = 10, .decay = decay, .final_fraction = 0.1};
      EXPECT_DOUBLE_EQ(learning_rate(s, 9), 10.0 / static_cast<double>(warmup)) << name_of(decay);
    }
  }
}

TEST(LrSchedule, RefusesWhatMakesNoSense) {
  EXPECT_THROW(check(LrSchedule{.lr = 0}), UsageError);
  EXPECT_THROW(check(LrSchedule{.lr = std::nan("")}), UsageError);
  EXPECT_THROW(check(LrSchedule{.warmup = -1}), UsageError);
  EXPECT_THROW(check(LrSchedule{.final_fraction = 2}), UsageError);
  EXPECT_NO_THROW(check(LrSchedule{}));
}

TEST(Clip, ScalesOnlyWhatIsTooLong) {
  EXPECT_DOUBLE_EQ(clip_scale(5.0, 1.0), 0.2);
  EXPECT_DOUBLE_EQ(clip_scale(5.0, 10.0), 1.0);
  EXPECT_DOUBLE_EQ(clip_scale(5.0, 0.0), 1.0);
  EXPECT_TRUE(std::isnan(clip_scale(std::nan(""), 1.0)));
}

Parameter parameter(Backend& backend, Shape shape, double value, double gradient) {
  Parameter p{.name = "p",
              .full_shape = shape,
              .offset = Shape(shape.size(), 0),
              .value = Tensor(backend.runtime(), shape, Dtype::f64),
              .gradient = Tensor(backend.runtime(), shape, Dtype::f64),
              .compute = {}};
  backend.fill(p.value, value);
  backend.fill(p.gradient, gradient);
  return p;
}

TEST(AdamW, FirstStepIsTheSignOfTheGradientAndDecaysWhatShallDecay) {
  const auto backend = make_reference_backend();
  std::vector<Parameter> parameters = {parameter(*backend, {1, 2}, 1.0, 4.0), parameter(*backend, {2}, 1.0, -4.0)};
  parameters[1].decayed = false;
  AdamWOptimizer optimizer(*backend, parameters, {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.5});
  optimizer.step(0.1);
  EXPECT_NEAR(parameters[0].value.to_host<double>()[0], 1.0 * (1 - 0.1 * 0.5) - 0.1, 1e-9);
  EXPECT_NEAR(parameters[1].value.to_host<double>()[0], 1.0 + 0.1, 1e-9);
  EXPECT_EQ(optimizer.steps(), 1);
}

TEST(AdamW, AStepEndsInTheDomainOfEachRowOfTheWhole) {
  const auto backend = make_reference_backend();
  Parameter rows = parameter(*backend, {2, 2}, 1.0, 1.0);  // a step of 0.1 downwards
  rows.full_shape = {4, 2};
  rows.offset = {1, 0};
  rows.decayed = false;
  rows.domain = {{.low = 5}, {.low = 0.95}, {.high = 0.5}, {.low = 7}};
  AdamWOptimizer optimizer(*backend, {rows}, {});
  optimizer.step(0.1);
  EXPECT_EQ(rows.value.to_host<double>(), (std::vector<double>{0.95, 0.95, 0.5, 0.5}));
}

TEST(AdamW, StateSetBackGivesTheSameStep) {
  const auto backend = make_reference_backend();
  std::vector<Parameter> straight = {parameter(*backend, {3}, 1.0, 0.3)};
  std::vector<Parameter> resumed = {parameter(*backend, {3}, 1.0, 0.3)};
  AdamWOptimizer one(*backend, straight, {});
  one.step(0.1);
  one.step(0.1, 0.5);
  EXPECT_EQ(one.steps(), 2);
  AdamWOptimizer before(*backend, resumed, {});
  before.step(0.1);
  AdamWOptimizer after(*backend, resumed, {});
  after.moments() = before.moments();
  after.set_steps(before.steps());
  after.step(0.1, 0.5);
  EXPECT_EQ(straight[0].value.to_host<double>(), resumed[0].value.to_host<double>());
}

TEST(AdamW, RefusesWhatMakesNoSense) {
  EXPECT_THROW(check(AdamWHyper{.beta1 = 1.0}), UsageError);
  EXPECT_THROW(check(AdamWHyper{.beta2 = -0.1}), UsageError);
  EXPECT_THROW(check(AdamWHyper{.eps = 0}), UsageError);
  EXPECT_THROW(check(AdamWHyper{.weight_decay = -1}), UsageError);
}

}  // namespace
}  // namespace lexring
