/// One thread reads, several work, the caller's takes the results in the order in which they were read; a bounded number is on the way.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

namespace lexring {

/// `produce() -> optional<Task>` (nullopt: no more) runs on a thread of its own; a worker, made by `make_worker()` on each of `threads` threads, turns a
/// Task into a Result; `consume(Result&&)` runs on the calling thread. An exception of any of them stops all, and comes out of run() when its place in
/// the order is reached: what comes out does not depend on the number of threads. For one run.
template <class Task, class Result>
class OrderedPipeline {
 public:
  using Worker = std::function<Result(Task&&)>;

  void run(int threads, const std::function<std::optional<Task>()>& produce, const std::function<Worker()>& make_worker,
           const std::function<void(Result&&)>& consume) {
    room_ = 2 * threads + 2;
    std::vector<std::jthread> pool;
    struct Stop {
      OrderedPipeline* pipeline;
      ~Stop() { pipeline->stop(); }
    } stop_before_joining{this};
    pool.emplace_back([&] { produce_all(produce); });
    for (int i = 0; i < threads; ++i) pool.emplace_back([&] { work_all(make_worker); });
    consume_all(consume);
  }

 private:
  using Outcome = std::variant<Result, std::exception_ptr>;

  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  void put(std::uint64_t place, Outcome outcome) {
    const std::lock_guard lock(mutex_);
    outcomes_.emplace(place, std::move(outcome));
    changed_.notify_all();
  }

  void produce_all(const std::function<std::optional<Task>()>& produce) {
    for (std::uint64_t place = 0;; ++place) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopped_ || on_the_way_ < room_; });
        if (stopped_) return;
        ++on_the_way_;
      }
      std::optional<Task> task;
      try {
        task = produce();
      } catch (...) {
        return put(place, std::current_exception());
      }
      const std::lock_guard lock(mutex_);
      if (task) {
        tasks_.emplace_back(place, std::move(*task));
      } else {
        end_ = place;
      }
      changed_.notify_all();
      if (!task) return;
    }
  }

  void work_all(const std::function<Worker()>& make_worker) {
    Worker work;
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopped_ || !tasks_.empty(); });
      if (stopped_) return;
      auto [place, task] = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      try {
        if (!work) work = make_worker();
        put(place, work(std::move(task)));
      } catch (...) {
        put(place, std::current_exception());
      }
    }
  }

  void consume_all(const std::function<void(Result&&)>& consume) {
    for (std::uint64_t place = 0;; ++place) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return end_ == place || outcomes_.count(place) > 0; });
      if (end_ == place) return;
      auto outcome = std::move(outcomes_.extract(place).mapped());
      --on_the_way_;
      changed_.notify_all();
      lock.unlock();
      if (auto* error = std::get_if<std::exception_ptr>(&outcome)) std::rethrow_exception(*error);
      consume(std::move(std::get<Result>(outcome)));
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::uint64_t, Task>> tasks_;
  std::map<std::uint64_t, Outcome> outcomes_;
  std::optional<std::uint64_t> end_;
  int on_the_way_ = 0;
  int room_ = 0;
  bool stopped_ = false;
};

}  // namespace lexring
