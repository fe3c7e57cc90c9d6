/// How often a model gives the right answers to the texts of a task.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "datasets/tasks/task.h"
#include "models/transformer.h"

namespace lexring {

/// A share of `of`, with the interval that holds the true one in 95 % of cases (Wilson 1927): honest for few texts, and
/// near 0 and 1.
struct Share {
  std::int64_t right = 0, of = 0;

  double value() const { return of == 0 ? 0 : static_cast<double>(right) / static_cast<double>(of); }
  struct Interval {
    double low, high;
  };
  Interval interval() const;
};

/// Texts of one size and variant under one series.
struct TaskScore {
  std::int64_t size = 0;
  std::int64_t texts = 0, longest = 0;  ///< tokens of the longest text
  Share answers;                        ///< right as a whole
  Share bytes;                          ///< of answers
  double seconds = 0;
  std::string not_measured;  ///< why; empty: measured
};

/// Reads each text up to its answers and counts those of which every byte is the most probable one after all before it:
/// what greedy generation would write. Texts share forward passes of up to `chunk` tokens; longer ones are streamed.
/// Every rank gets the same texts and the same sums; replicas share the work. `progress` gets the texts done by this
/// replica. The tokens of the model must be bytes. Collective.
void score(TaskScore& into, Transformer& model, const Context& context, std::span<const ScoredText> texts,
           std::int64_t chunk, const std::function<void(std::int64_t)>& progress);

}  // namespace lexring
