#include "datasets/ordered_pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

namespace lexring {
namespace {

/// Squares 0 .. count - 1, with small unequal delays; `fail_at` makes a worker throw, `end_in_error` the producer.
std::vector<int> squares(int threads, int count, int fail_at = -1, bool end_in_error = false) {
  std::vector<int> out;
  int next = 0;
  OrderedPipeline<int, int>().run(
      threads,
      [&]() -> std::optional<int> {
        if (next < count) return next++;
        if (end_in_error) throw std::runtime_error("producer");
        return std::nullopt;
      },
      [&] {
        return [fail_at](int&& x) {
          std::this_thread::sleep_for(std::chrono::microseconds((x * 37) % 200));
          if (x >= fail_at && fail_at >= 0) throw std::runtime_error("worker " + std::to_string(x));
          return x * x;
        };
      },
      [&](int&& y) { out.push_back(y); });
  return out;
}

std::string failure(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

TEST(OrderedPipeline, KeepsTheOrderOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 7}) {
    const auto out = squares(threads, 200);
    ASSERT_EQ(out.size(), 200u);
    for (int i = 0; i < 200; ++i) EXPECT_EQ(out[static_cast<std::size_t>(i)], i * i);
  }
  EXPECT_TRUE(squares(3, 0).empty());
}

TEST(OrderedPipeline, TheFirstFailureInOrderComesOut) {
  for (const int threads : {1, 2, 7}) {
    EXPECT_EQ(failure([&] { squares(threads, 100, 30); }), "worker 30");
    EXPECT_EQ(failure([&] { squares(threads, 20, 10, true); }), "worker 10");
    EXPECT_EQ(failure([&] { squares(threads, 20, -1, true); }), "producer");
  }
}

TEST(OrderedPipeline, AFailingConsumerStopsAnEndlessProducer) {
  std::atomic<int> produced = 0;
  const auto run = [&] {
    OrderedPipeline<int, int>().run(
        2, [&]() -> std::optional<int> { return produced++; }, [] { return [](int&& x) { return x; }; },
        [](int&& x) {
          if (x == 50) throw std::runtime_error("consumer");
        });
  };
  EXPECT_EQ(failure(run), "consumer");
  EXPECT_LE(produced, 60);  // bounded: what is on the way, not more
}

}  // namespace
}  // namespace lexring
