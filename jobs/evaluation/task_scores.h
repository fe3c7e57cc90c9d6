/// How often a model gives the right answers to the texts of a task.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "datasets/landmarks.h"
#include "datasets/tasks/task.h"
#include "jobs/evaluation/kept_parts.h"
#include "models/transformer.h"

namespace lexring {

/// A share of `of`, with the interval that holds the true one in 95 % of cases (Wilson 1927): honest for few texts, and
/// near 0 and 1. Answers to one text go together, so they count as fewer than they are: divided by the design effect,
/// which is how much wider than binomial the spread between texts is (Kish 1965).
class Share {
 public:
  struct Interval {
    double low, high;
  };

  /// `right` answers of `of` to one text.
  void add_text(std::int64_t right, std::int64_t of);
  Share& operator+=(const Share& other);

  std::int64_t right() const { return right_; }
  std::int64_t of() const { return of_; }
  double value() const { return of_ == 0 ? 0 : static_cast<double>(right_) / static_cast<double>(of_); }
  Interval interval() const;

 private:
  double independent() const;  ///< answers that would tell as much

  std::int64_t right_ = 0, of_ = 0;
  std::int64_t right_right_ = 0, right_of_ = 0, of_of_ = 0;  ///< products, summed over texts
};

/// Texts of one size and variant under one series.
struct TaskScore {
  std::int64_t size = 0;
  std::int64_t texts = 0, longest = 0;                 ///< places_read of the longest text
  Share answers;                                       ///< right as a whole
  std::vector<std::int64_t> text_answers, text_right;  ///< the same of each text
  Share bytes;                                         ///< of answers
  double seconds = 0;
  std::string not_measured;  ///< why; empty: measured
};

/// Places that a model reads of a text, all but its last byte, with the landmarks among them.
std::int64_t places_read(const ScoredText& text, LandmarkSpacing landmarks);

/// Reads each text up to its answers, with landmarks where the model has them, and counts those answers of which every
/// byte is the most probable one after all before it: what greedy generation would write. Texts share forward passes of
/// up to `chunk` places; longer ones are streamed. Every rank gets the same texts and the same sums; replicas share the
/// work. The texts are cut into parts of some passes each; throws EvaluationStopped between two passes. The tokens of
/// the model must be bytes. Collective.
void score(TaskScore& into, Transformer& model, const Context& context, std::span<const ScoredText> texts,
           std::int64_t chunk, const CellWork& work = {});

}  // namespace lexring
