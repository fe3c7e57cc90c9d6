#include "jobs/evaluation/results.h"

#include <cmath>

namespace lexring {

void summarise(EvaluationResults& results) {
  results.base_length = 0;
  for (const std::int64_t length : results.lengths) {
    if (length <= results.train_length && length > results.base_length) results.base_length = length;
  }
  if (results.base_length == 0 && !results.lengths.empty()) results.base_length = results.lengths.front();
  for (PatternRow& row : results.patterns) {
    const Cell* base = nullptr;
    for (Cell& cell : row.cells) {
      if (!cell.measured()) continue;
      cell.loss = mean_loss(cell.segments);
      cell.perplexity = std::exp(cell.loss.mean);
      if (cell.length == results.base_length) base = &cell;
    }
    if (base == nullptr) continue;
    for (Cell& cell : row.cells) {
      if (cell.measured() && &cell != base) cell.difference = paired_difference(cell.segments, base->segments);
    }
  }
}

}  // namespace lexring
