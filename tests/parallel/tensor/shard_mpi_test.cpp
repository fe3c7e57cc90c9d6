// Parts of parameters, what several ranks hold, and the sum of its gradients.
#include <map>

#include <gtest/gtest.h>

#include "framework/nn/init.h"
#include "framework/nn/parameter_store.h"
#include "parallel/tensor/replicated.h"
#include "parallel/tensor/shard.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using testing::world;

/// Every way there is to cut a matrix [7, 12], and a vector of 5.
std::vector<ParameterPart> parts() {
  const int ranks = world()->size();
  return {part_of({"rows", {7, 12}}, {0, ranks}, *world()), part_of({"columns", {7, 12}}, {1, ranks}, *world()),
          part_of({"halves", {7, 12}}, {0, ranks % 2 == 0 ? 2 : 1}, *world()),
          part_of({"whole", {5}}, {0, 1}, *world())};
}

struct Store {
  std::unique_ptr<Backend> backend = make_reference_backend();
  ParameterStore store;
  std::vector<Parameter>& parameters = store.parameters();

  Store() {
    std::vector<NamedShape> order;
    for (const ParameterPart& part : parts()) {
      store.declare({part});
      order.push_back({part.name, part.full_shape});
    }
    store.allocate(*backend, Dtype::f64, Dtype::f64, order);
  }
};

/// Global indices of a part's elements, in its order.
std::vector<std::int64_t> places(const Parameter& p) {
  std::vector<std::int64_t> all;
  const std::int64_t columns = p.value.shape().size() == 2 ? p.value.dim(1) : 1;
  const std::int64_t full_columns = p.full_shape.size() == 2 ? p.full_shape[1] : 1;
  for (std::int64_t row = 0; row < p.value.dim(0); ++row)
    for (std::int64_t column = 0; column < columns; ++column)
      all.push_back((p.offset[0] + row) * full_columns + (columns > 1 || p.offset.size() > 1 ? p.offset[1] : 0) +
                    column);
  return all;
}

TEST(Shards, CoverEveryElementAsOftenAsThereAreCopies) {
  Store s;
  for (const Parameter& parameter : s.parameters) {
    std::vector<double> held(static_cast<std::size_t>(element_count(parameter.full_shape))), first(held.size());
    for (const std::int64_t at : places(parameter)) {
      held[static_cast<std::size_t>(at)] += 1;
      first[static_cast<std::size_t>(at)] += parameter.copy == 0 ? 1 : 0;
    }
    world()->all_reduce(held, Reduce::sum);
    world()->all_reduce(first, Reduce::sum);
    EXPECT_EQ(held, std::vector<double>(held.size(), parameter.copies)) << parameter.name;
    EXPECT_EQ(first, std::vector<double>(held.size(), 1.0)) << parameter.name << ": copy 0 is there once";
  }
}

TEST(Shards, InitialValuesAreThoseOfTheWhole) {
  Store s;
  for (const Parameter& parameter : s.parameters) {
    const Parameter whole{.name = parameter.name,
                          .full_shape = parameter.full_shape,
                          .offset = Shape(parameter.full_shape.size(), 0),
                          .value = Tensor(s.backend->runtime(), parameter.full_shape, Dtype::f64),
                          .gradient = {},
                          .compute = {}};
    init_normal(whole, 3, 1.0);
    init_normal(parameter, 3, 1.0);
    const auto all = whole.value.to_host<double>(), own = parameter.value.to_host<double>();
    const auto at = places(parameter);
    for (std::size_t i = 0; i < own.size(); ++i)
      ASSERT_EQ(own[i], all[static_cast<std::size_t>(at[i])]) << parameter.name;
  }
}

TEST(Shards, GradientsOfCopiesBecomeTheirSumOverTheirHolders) {
  Store s;
  const double mine = world()->rank() + 1;
  for (const Parameter& parameter : s.parameters) s.backend->fill(parameter.gradient, mine);
  const ReplicatedGradients replicated(*world(), s.parameters);
  replicated.sum(s.parameters);
  for (const Parameter& parameter : s.parameters) {
    const int first_holder = world()->rank() - parameter.copy;
    double sum = 0;
    for (int r = first_holder; r < first_holder + parameter.copies; ++r) sum += r + 1;
    EXPECT_EQ(parameter.gradient.to_host<double>(),
              std::vector<double>(static_cast<std::size_t>(parameter.gradient.elements()), sum))
        << parameter.name;
  }
}

TEST(Shards, AGroupThatSharesDoNotDivideIsRefused) {
  EXPECT_THROW(part_of({"w", {8, 8}}, {0, world()->size() + 1}, *world()), Error);
  EXPECT_THROW(part_of({"b", {8}}, {1, 1}, *world()), Error);
}

}  // namespace
}  // namespace lexring
