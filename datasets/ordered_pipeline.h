/// One thread reads, several work, the caller's takes the results in the order in which they were read; a bounded
/// number is on the way.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {

/// `produce() -> optional<Task>` (nullopt: no more) runs on a thread of its own; a worker, made by `make_worker()` on
/// each of `threads` threads, turns a Task into a Result; `consume(Result&&)` runs on the calling thread. An exception
/// of any of them stops all, and comes out of run() when its place in the order is reached: what comes out does not
/// depend on the number of threads. Tasks and results move without throwing; what is on the way lies in slots made
/// before, so that std::bad_alloc travels like any exception. For one run.
template <class Task, class Result>
class OrderedPipeline {
 public:
  using Worker = std::function<Result(Task&&)>;

  void run(int threads, const std::function<std::optional<Task>()>& produce, const std::function<Worker()>& make_worker,
           const std::function<void(Result&&)>& consume) {
    slots_ = std::vector<Slot>(static_cast<std::size_t>(2 * threads + 2));
    std::vector<std::jthread> pool;
    struct Stop {
      OrderedPipeline* pipeline;
      ~Stop() { pipeline->stop(); }
    } stop_before_joining{this};
    try {
      pool.emplace_back([&] { produce_all(produce); });
      for (int i = 0; i < threads; ++i) pool.emplace_back([&] { work_all(make_worker); });
    } catch (const std::system_error& error) {
      fail("cannot start {}: {}; choose fewer with --threads", counted(threads, "thread"), error.what());
    }
    consume_all(consume);
  }

 private:
  enum Stage : std::size_t { empty, task, result, failure };
  using Slot = std::variant<std::monostate, Task, Result, std::exception_ptr>;

  Slot& slot(std::uint64_t place) { return slots_[place % slots_.size()]; }

  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  template <Stage stage, class Value>
  void put(std::uint64_t place, Value&& value) {
    const std::lock_guard lock(mutex_);
    slot(place).template emplace<stage>(std::forward<Value>(value));
    changed_.notify_all();
  }

  void produce_all(const std::function<std::optional<Task>()>& produce) {
    for (std::uint64_t place = 0;; ++place) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopped_ || place - taken_ < slots_.size(); });
        if (stopped_) return;
      }
      std::optional<Task> made;
      try {
        made = produce();
      } catch (...) {
        return put<failure>(place, std::current_exception());
      }
      const std::lock_guard lock(mutex_);
      if (made) {
        slot(place).template emplace<task>(std::move(*made));
        produced_ = place + 1;
      } else {
        end_ = place;
      }
      changed_.notify_all();
      if (!made) return;
    }
  }

  void work_all(const std::function<Worker()>& make_worker) {
    Worker work;
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopped_ || begun_ < produced_; });
      if (stopped_) return;
      const auto place = begun_++;
      Task mine = std::get<task>(std::move(slot(place)));
      slot(place).template emplace<empty>();
      lock.unlock();
      try {
        if (!work) work = make_worker();
        put<result>(place, work(std::move(mine)));
      } catch (...) {
        put<failure>(place, std::current_exception());
      }
    }
  }

  void consume_all(const std::function<void(Result&&)>& consume) {
    for (std::uint64_t place = 0;; ++place) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return end_ == place || slot(place).index() >= result; });
      if (end_ == place) return;
      Slot outcome = std::move(slot(place));
      slot(place).template emplace<empty>();
      taken_ = place + 1;
      changed_.notify_all();
      lock.unlock();
      if (outcome.index() == failure) std::rethrow_exception(std::get<failure>(outcome));
      consume(std::get<result>(std::move(outcome)));
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;  ///< of the places [taken_, taken_ + slots): what is there of them
  std::uint64_t produced_ = 0, begun_ = 0, taken_ = 0;
  std::optional<std::uint64_t> end_;
  bool stopped_ = false;
};

}  // namespace lexring
