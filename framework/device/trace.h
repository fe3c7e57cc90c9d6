/// Names for stretches of time, for profilers that show them over the kernels that they started (Nsight Systems).
#pragma once

namespace lexring {

/// A stretch of this thread's time, until the scope ends; stretches nest. `name` is a literal. Does nothing in a
/// program without CUDA, and next to nothing where no profiler listens.
class TraceRange {
 public:
  explicit TraceRange(const char* name);
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
  ~TraceRange();
};

}  // namespace lexring
