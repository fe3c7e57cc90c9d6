/// How well messages hide behind computing: ranks in a ring pass keys and values on while they multiply matrices, as
/// ring attention does.
///
///   two_hosts.sh run 1 overlap [MIB [RATIO...]]     MIB passed on per step (default 8); RATIO: transfer / compute
///   (default 0.5 0.65 0.8)
///
/// A line per ratio: seconds of a step that only computes, that only transfers, of both one after another, of both at
/// once, and what the last is in units of the larger of the first two. 1 is perfect; no overlap is their sum.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "framework/backend/backend.h"
#include "framework/base/error.h"
#include "parallel/comm/host/mpi.h"
#include "tests/support/ring_shift.h"

namespace {

using namespace lexring;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Experiment {
 public:
  Experiment(Communicator& ring, std::size_t bytes)
      : ring_(&ring), backend_(make_cpu_backend()), outgoing_(bytes), incoming_(bytes) {
    for (Tensor* matrix : {&x_, &w_, &y_}) {
      *matrix = Tensor(backend_->runtime(), {256, 256}, Dtype::f32);
      backend_->fill(*matrix, 0.001);
    }
  }

  /// So many products that computing takes transfer / ratio, on the slowest rank.
  void run(double ratio) {
    products_ = 100;
    const double product = slowest([&] { compute(); }) / 100;
    const double once = slowest([&] { start().wait(); });
    products_ = std::max(1, static_cast<int>(once / ratio / product));
    const double computing = slowest([&] { compute(); }), transfer = slowest([&] { start().wait(); });
    const double in_turn = slowest([&] { compute(), start().wait(); });
    ring_->reset_records();
    const double step = slowest([&] {
      Pending pending = start();
      compute();
      pending.wait();
    });
    double exposed = 0;
    for (const CommRecord& record : ring_->records())
      exposed += record.operation == "exchange" ? record.exposed / repeats : 0;
    if (ring_->rank() == 0) {
      fmt::print(
          "compute {:.4f} s, transfer {:.4f} s ({:.2f}), one after another {:.4f} s, at once {:.4f} s: {:.3f} x the "
          "larger, exposed {:.4f} s\n",
          computing, transfer, transfer / computing, in_turn, step, step / std::max(computing, transfer), exposed);
      std::fflush(stdout);
    }
  }

 private:
  static constexpr int repeats = 12;

  Pending start() { return testing::start_ring_shift(*ring_, outgoing_, incoming_); }
  void compute() {
    for (int i = 0; i < products_; ++i) backend_->linear(x_, w_, {}, y_);
  }
  /// Seconds of a step of the slowest rank: all steps in a row, as a run has them, so that ranks may run ahead of each
  /// other by one.
  double slowest(const std::function<void()>& step) {
    step();
    ring_->barrier();
    std::vector<double> seconds = {seconds_of([&] {
      for (int i = 0; i < repeats; ++i) step();
    })};
    ring_->all_reduce(seconds, Reduce::max);
    return seconds[0] / repeats;
  }

  Communicator* ring_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::byte> outgoing_, incoming_;
  Tensor x_, w_, y_;
  int products_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(argc, argv);
  try {
    const double mib = argc > 1 ? std::atof(argv[1]) : 8;
    std::vector<double> ratios;
    for (int i = 2; i < argc; ++i) ratios.push_back(std::atof(argv[i]));
    if (ratios.empty()) ratios = {0.5, 0.65, 0.8};
    Experiment experiment(*session.world(), static_cast<std::size_t>(mib * (1 << 20)));
    for (const double ratio : ratios) experiment.run(ratio);
  } catch (const Error& error) {
    fmt::print(stderr, "rank {}: {}\n", session.world()->rank(), error.what());
    session.end_all(1);
  }
  return 0;
}
