/// Data-parallel training against one rank that computes everything: gradients, norms, parameters, bytes, memory.
#include "parallel/data/data_parallel.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "framework/optim/clip.h"
#include "tests/models/model_testing.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring {
namespace {

constexpr std::int64_t length = 12;
constexpr std::size_t message_bytes =
    100000;  // several messages, some with several layers' parameters, some with part of one
constexpr AdamWHyper hyper{};

/// Some parameters large enough to be cut by rows, not evenly by 3 or 4.
ModelConfig config(bool tied) {
  ModelConfig model = small_config();
  model.width = 64;
  model.heads = model.kv_heads = 4;
  model.ffn_width = 1027;
  model.vocab = 1031;
  model.tied = tied;
  return model;
}

/// Micro-batch `micro` of replica `replica`: few of its targets count, and none of the last replica's first.
ModelBatch batch_of(int replica, int micro, int replicas) {
  ModelBatch batch = small_batch(1, length, 1031, false);
  const auto shift = static_cast<std::size_t>(replica * 3 + micro + 1);
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    batch.ids[i] = static_cast<std::int32_t>((static_cast<std::size_t>(batch.ids[i]) * shift * 7 + i) % 1031);
    const bool counted = replica + 1 < replicas || micro > 0 || replicas == 1;
    batch.targets[i] = counted && i % shift == 0 ? static_cast<std::int32_t>((i * 389 + shift * 31) % 1031) : -1;
  }
  return batch;
}

std::int64_t targets_of(const ModelBatch& batch) {
  return std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t target) { return target >= 0; });
}

/// A model in training on a mesh of dp = all ranks of `context`, or alone.
struct Training {
  Training(const Context& on, const ModelConfig& model_config, Precision precision, Shard shard)
      : context(on),
        model(model_config, {.precision = precision, .held = held_by_model(shard, context.replicas().size())}, context,
              *backend),
        data(context, *backend, model.parameters(), model.gradients(), model.gradient_sections(), hyper, shard,
             message_bytes) {
    model.initialise(5);
    for (const Parameter& rows : data.masters()) model.initialise(rows, 5);
  }

  /// Gradients of a step over the micro-batches of replicas [first, last); the global norm.
  double compute(int first, int last, int replicas, int micros) {
    std::int64_t targets = 0;
    for (int r = 0; r < replicas; ++r)
      for (int m = 0; m < micros; ++m) targets += targets_of(batch_of(r, m, replicas));
    data.begin_step();
    for (int r = first; r < last; ++r) {
      for (int m = 0; m < micros; ++m) {
        const bool final = r + 1 == last && m + 1 == micros;
        const auto which = final ? DataParallel::MicroBatch::last : DataParallel::MicroBatch::more_to_come;
        model.train_step(batch_of(r, m, replicas), 1.0 / static_cast<double>(targets), data.reached(which));
      }
    }
    return data.finish_gradients();
  }

  const Context& context;
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Transformer model;
  DataParallel data;
};

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

class DataParallelMpi : public ::testing::Test {
 protected:
  std::shared_ptr<Communicator> world = lexring::testing::world();
  int ranks = world->size(), rank = world->rank();
  Context all{world, make_mesh(ranks, ranks, 1, 1)};
  Context alone;

  double sum(double mine) {
    std::vector<double> values = {mine};
    world->all_reduce(std::span<double>(values), Reduce::sum);
    return values[0];
  }

  /// Gradients of the rows that this rank owns, after the first step; norms and parameters along `steps` steps.
  void expect_as_alone(const ModelConfig& model_config, Precision precision, Shard shard, int micros, int steps,
                       double tolerance) {
    Training one(alone, model_config, precision, Shard::none), many(all, model_config, precision, shard);
    for (int step = 0; step < steps; ++step) {
      const double expected = one.compute(0, ranks, ranks, micros);
      const double norm = many.compute(rank, rank + 1, ranks, micros);
      EXPECT_NEAR(norm, expected, tolerance * expected) << "step " << step;
      EXPECT_EQ(sum(norm), norm * ranks) << "one number on all ranks";
      if (step == 0) {
        const auto shares = share_rows(one.model.parameters(), ranks);
        const auto& mine = shares[static_cast<std::size_t>(rank)];
        const auto owned = many.data.owned();
        ASSERT_EQ(owned.size(), mine.size());
        for (std::size_t i = 0; i < mine.size(); ++i) {
          const Parameter theirs = rows_of(one.model.parameters()[mine[i].parameter], mine[i]);
          EXPECT_EQ(owned[i].rows.name, theirs.name);
          EXPECT_EQ(owned[i].rows.offset, theirs.offset);
          EXPECT_LT(difference(host_values(owned[i].rows.gradient), host_values(theirs.gradient)), tolerance)
              << theirs.name;
        }
      }
      one.data.step(1e-3, clip_scale(expected, 1.0));
      many.data.step(1e-3, clip_scale(norm, 1.0));
    }
    for (std::size_t i = 0; i < one.model.parameters().size(); ++i) {
      const Parameter &mine = many.model.parameters()[i], &theirs = one.model.parameters()[i];
      EXPECT_LT(difference(host_values(mine.value), host_values(theirs.value)), 10 * tolerance) << mine.name;
    }
  }
};

TEST_F(DataParallelMpi, TwentyStepsAreThoseOfOneRank) {
  for (const Shard shard : {Shard::none, Shard::gradients})
    expect_as_alone(config(false), Precision::fp32, shard, 1, 20, tolerance::f32_matmul);
  for (const Shard shard : {Shard::none, Shard::state, Shard::gradients})
    expect_as_alone(config(true), Precision::fp32, shard, 3, 3, tolerance::f32_matmul);
}

std::vector<double> to_doubles(Backend& backend, const Tensor& tensor) {
  if (tensor.dtype() != Dtype::bf16) return host_values(tensor);
  const Tensor values(backend.runtime(), tensor.shape(), Dtype::f32);
  backend.cast(tensor, values);
  return host_values(values);
}

/// What products and lookups read on every rank, and what each owns, after some steps.
TEST_F(DataParallelMpi, ShardingChangesNoBit) {
  struct Way {
    Shard shard;
    Precision precision;
    bool tied;
    int micros;  // one with sharded gradients: more are added up in another order
  };
  for (const Way& way :
       {Way{Shard::state, Precision::fp32, true, 2}, Way{Shard::state, Precision::bf16, true, 2},
        Way{Shard::gradients, Precision::bf16, false, 1}, Way{Shard::gradients, Precision::bf16, true, 1}}) {
    Training whole(all, config(way.tied), way.precision, Shard::none),
        sharded(all, config(way.tied), way.precision, way.shard);
    for (int step = 0; step < 3; ++step) {
      const double expected = whole.compute(rank, rank + 1, ranks, way.micros);
      const double norm = sharded.compute(rank, rank + 1, ranks, way.micros);
      ASSERT_EQ(norm, expected);
      whole.data.step(1e-3, clip_scale(expected, 1.0));
      sharded.data.step(1e-3, clip_scale(norm, 1.0));
    }
    for (std::size_t i = 0; i < whole.model.parameters().size(); ++i) {
      const Parameter &a = sharded.model.parameters()[i], &b = whole.model.parameters()[i];
      EXPECT_TRUE(a.value.defined() || !a.looked_up) << a.name;
      for (const auto part : {&Parameter::value, &Parameter::compute}) {
        if (!(a.*part).defined()) continue;
        EXPECT_EQ(to_doubles(*whole.backend, a.*part), to_doubles(*whole.backend, b.*part)) << a.name;
      }
    }
    const auto mine = sharded.data.owned(), theirs = whole.data.owned();
    ASSERT_EQ(mine.size(), theirs.size());
    for (std::size_t i = 0; i < mine.size(); ++i) {
      EXPECT_EQ(host_values(mine[i].rows.value), host_values(theirs[i].rows.value)) << mine[i].rows.name;
      EXPECT_EQ(host_values(mine[i].moments.second), host_values(theirs[i].moments.second)) << mine[i].rows.name;
    }
  }
}

TEST_F(DataParallelMpi, BytesAreThoseOfTheFormulas) {
  for (const Shard shard : {Shard::none, Shard::state, Shard::gradients}) {
    const Context fresh(world, make_mesh(ranks, ranks, 1, 1));
    Training training(fresh, config(false), Precision::bf16, shard);
    training.data.step(1e-3, training.compute(rank, rank + 1, ranks, 1));
    double gradients = 0, own_gradients = 0, values = 0, own_values = 0;
    const auto shares = share_rows(training.model.parameters(), ranks);
    for (int r = 0; r < ranks; ++r) {
      for (const RowShare& share : shares[static_cast<std::size_t>(r)]) {
        const Parameter rows = rows_of(training.model.parameters()[share.parameter], share);
        const auto read =
            static_cast<double>((rows.compute.defined() && !rows.looked_up ? rows.compute : rows.value).bytes());
        gradients += static_cast<double>(rows.gradient.bytes());
        values += read;
        if (r == rank) own_gradients += static_cast<double>(rows.gradient.bytes()), own_values += read;
      }
    }
    const auto sent = [&](const std::string& operation) {
      double bytes = 0;
      for (const CommRecord& record : fresh.replicas().records())
        if (record.operation == operation) bytes = static_cast<double>(record.bytes);
      return bytes;
    };
    if (ranks == 1) {
      EXPECT_EQ(sent("all_reduce") + sent("reduce_scatter") + sent("all_gather"), 0)
          << "one replica has nothing to say";
    } else if (shard == Shard::none) {
      const auto padded = static_cast<double>(training.model.gradients().bytes());
      EXPECT_NEAR(sum(sent("all_reduce")), 2 * padded * (ranks - 1), 0.5);
      EXPECT_NEAR(sent("all_reduce"), 2 * padded * (ranks - 1) / ranks, 0.01 * padded);
    } else {
      EXPECT_EQ(sent("reduce_scatter"), gradients - own_gradients);
      EXPECT_EQ(sent("all_gather"), own_values * (ranks - 1));
      EXPECT_NEAR(own_gradients, gradients / ranks, 0.05 * gradients);
    }
  }
}

/// Bytes of tensors that a model in training holds between steps, against the table at Shard.
TEST_F(DataParallelMpi, MemoryIsThatOfTheFormulas) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const Shard shard : {Shard::none, Shard::state, Shard::gradients}) {
      Training training(all, config(false), precision, shard);
      const auto shares = share_rows(training.model.parameters(), ranks);
      double products = 0, others = 0, own_products = 0, own_others = 0;  // elements
      for (int r = 0; r < ranks; ++r) {
        for (const RowShare& share : shares[static_cast<std::size_t>(r)]) {
          const Parameter& parameter = training.model.parameters()[share.parameter];
          const auto elements = static_cast<double>(share.count * parameter.gradient.row_elements());
          const bool product = parameter.compute.defined() && !parameter.looked_up;
          (product ? products : others) += elements;
          if (r == rank) (product ? own_products : own_others) += elements;
        }
      }
      const double all_of_them = products + others, own = own_products + own_others;
      EXPECT_NEAR(own, all_of_them / ranks, 0.05 * all_of_them);
      const bool bf16 = precision == Precision::bf16;
      double expected = 16 * all_of_them + (bf16 ? 2 * products : 0);
      if (shard != Shard::none && ranks > 1) {
        expected = 8 * own + 4 * others + (bf16 ? 2 * products + 4 * own_products : 4 * products);
        const auto section = static_cast<double>(training.model.gradients().bytes());
        EXPECT_LT(section, 4 * 0.4 * all_of_them + (shard == Shard::state ? 1e9 : 0)) << "one layer of two";
        expected += shard == Shard::state ? 4 * all_of_them : 4 * own + section;
      }
      EXPECT_NEAR(static_cast<double>(training.backend->runtime().memory().current), expected, 0.01 * expected)
          << "shard " << static_cast<int>(shard) << (bf16 ? " bf16" : " fp32");
    }
  }
}

}  // namespace
}  // namespace lexring
