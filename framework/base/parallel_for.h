/// The one way loops run in parallel on the CPU. Without OpenMP (the ThreadSanitizer preset) they run in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace lexring {

/// Threads that a parallel loop may use.
inline int parallel_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// body(index) for every index in [0, count), in any order, whichever thread is free: for tasks of unequal cost. Tasks
/// must not share outputs, so results do not depend on who ran what. The first exception is rethrown here.
template <class Body>
void parallel_tasks(std::int64_t count, const Body& body) {
  if (count == 1) {
    body(std::int64_t{0});
    return;
  }
  std::exception_ptr error;
  std::mutex mutex;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1)
#endif
  for (std::int64_t index = 0; index < count; ++index) {
    try {
      body(index);
    } catch (...) {
      const std::scoped_lock lock(mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

/// body(first, last) for adjacent ranges that cover [begin, end): one range a thread, none shorter than `grain` unless
/// it is the only one. The split depends only on the sizes and the number of threads.
template <class Body>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, const Body& body) {
  const std::int64_t count = end - begin;
  if (count <= 0) return;
  const std::int64_t ranges = std::clamp<std::int64_t>(count / std::max<std::int64_t>(grain, 1), 1, parallel_threads());
  parallel_tasks(ranges, [&](std::int64_t r) { body(begin + count * r / ranges, begin + count * (r + 1) / ranges); });
}

}  // namespace lexring
