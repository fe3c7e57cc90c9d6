/// What the checks of a step's numbers cost beside the step: medians, on every rank at once.
///
///   mpirun -n 2 check_costs --config configs/bench_cpu.ini [KEYS OF A RUN]
#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "framework/base/console.h"
#include "jobs/launch/command_start.h"
#include "jobs/training/own_gradients.h"
#include "jobs/training/replica.h"
#include "jobs/training/training_batches.h"
#include "parallel/comm/host/mpi.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

constexpr int times = 15;

double median_seconds(Communicator& world, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < times; ++i) {
    world.barrier();
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + times / 2, seconds.end());
  return seconds[times / 2];
}

int main_of(int argc, char** argv) {
  MpiSession session(argc, argv);
  const auto world = session.world();
  Options options = parse_options(std::vector<std::string>(argv + 1, argv + argc));
  const CommandPlace place = open_place(options, world);
  Backend& backend = *place.device.backend;
  const Context& context = place.mesh.context;
  Replica replica(replica_settings(options), context, backend);
  replica.initialise(1);
  const Communicator& dp = context.axis(Axis::dp);
  std::vector<ModelBatch> batches;
  for (const SampleRange& range :
       micro_batches(0, options.train.batch, dp.rank(), dp.size(), options.train.micro_batch))
    batches.push_back(small_batch(range.count, options.train.length, options.model.vocab, false));
  OwnGradients own(backend, replica.model().trained(), replica.model().gradient_sections());
  const std::size_t sections = replica.model().gradient_sections().size();
  replica.step(batches, 1e-4);
  const double step = median_seconds(*world, [&] {
    replica.step(batches, 1e-4);
    backend.runtime().synchronise();
  });
  const double sums = median_seconds(*world, [&] {
    for (std::size_t section = 0; section < sections; ++section) own.reached(section);
    backend.runtime().synchronise();
  });
  const double values = median_seconds(*world, [&] { replica.find_drift(false); });
  const double all = median_seconds(*world, [&] { replica.find_drift(true); });
  if (world->rank() > 0) return 0;
  const auto parameters = static_cast<double>(replica.model().trained_count());
  print_result("{:.1f} M parameters, {} tokens per rank and step, {} ranks\n", parameters / 1e6,
               options.train.batch * options.train.length / dp.size(), world->size());
  print_result(
      "step {:.4f} s; own gradients {:.5f} s (in every step); replicas' values {:.5f} s, with moments {:.5f} s\n", step,
      sums, values, all);
  return 0;
}

}  // namespace
}  // namespace lexring

int main(int argc, char** argv) { return lexring::main_of(argc, argv); }
