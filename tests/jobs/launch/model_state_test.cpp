// Loading a model needs nothing but a source of tensors.
#include "jobs/launch/model_state.h"

#include <gtest/gtest.h>

#include "tests/jobs/evaluation/random_model.h"
#include "tests/support/memory_source.h"

namespace lexring::testing {
namespace {

class LoadParameters : public ::testing::Test {
 protected:
  Context context_;
  std::unique_ptr<Backend> backend_ = make_reference_backend();
  ModelConfig config_ = tiny_config("causal", 11);
};

TEST_F(LoadParameters, FromAnySource) {
  const auto there = random_model(config_, context_, *backend_);
  MemorySource source;
  for (const Parameter& parameter : there->parameters())
    source.add(parameter.name, Dtype::f64, parameter.full_shape, parameter.value.to_host<double>());
  Transformer model(config_, {Precision::fp64, Dtype::f64, Recompute::none}, context_, *backend_);
  load_parameters(source, model);
  ASSERT_EQ(model.parameters().size(), there->parameters().size());
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const Parameter &found = model.parameters()[i], &expected = there->parameters()[i];
    EXPECT_EQ(found.value.to_host<double>(), expected.value.to_host<double>()) << found.name;
  }
}

TEST_F(LoadParameters, WhatIsMissingIsNamed) {
  Transformer model(config_, {Precision::fp64, Dtype::f64, Recompute::none}, context_, *backend_);
  expect_says(error_of([&] { load_parameters(MemorySource(), model); }), "memory: there is no tensor embedding");
  Options options;
  options.model = config_;
  expect_says(error_of([&] { require_fitting_weights(options, options, MemorySource()); }),
              "memory has no weights for");
}

}  // namespace
}  // namespace lexring::testing
