/// Products of warpgroups (emulated_hopper.h).
#pragma once

#include <array>
#include <deque>
#include <map>
#include <vector>

#include "tests/emulated_cuda/hopper_memory.h"

namespace lexring::cuda::hopper::emulated {

class TensorCores {
 public:
  TensorCores(const ProxyView& memory, unsigned threads);

  // Of the thread that runs.
  void fence();
  void start(float* d, int columns, const unsigned* left, std::uint64_t a, std::uint64_t b, bool accumulate);
  void commit();
  void wait(int groups);
  bool go_on();  ///< computes one product that all have started
  void ended() const;

 private:
  static constexpr unsigned group_threads = 128;
  static constexpr int rows = 64, depth = 16;

  struct Product {
    int columns;
    std::uint64_t a, b;
    bool registers, accumulate;
    std::array<const unsigned*, group_threads> left = {};
    unsigned delivered = 0;
    std::vector<float> result = {};  ///< [64, columns], empty before it is computed
  };
  /// Products are numbered in the order in which they start.
  struct Warpgroup {
    std::deque<Product> products;
    std::uint64_t first = 0;    ///< number of the first of these
    std::uint64_t started = 0;  ///< by all of its threads
    std::uint64_t computed = 0;
    std::array<std::uint64_t, group_threads> by_thread = {};
  };
  struct Sums {
    std::vector<float> value;
    int products = 0;
  };
  struct Started {
    std::uint64_t number;
    float* d;
  };
  struct Thread {
    bool fenced = false;
    std::vector<Started> open;
    std::deque<std::vector<Started>> groups;
    std::map<float*, Sums> sums;
  };

  void compute_next(Warpgroup& group) const;
  void deliver(const Started& started);

  const ProxyView& memory_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<Thread> threads_;
};

}  // namespace lexring::cuda::hopper::emulated
