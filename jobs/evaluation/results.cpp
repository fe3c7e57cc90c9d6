#include "jobs/evaluation/results.h"

#include <algorithm>
#include <cmath>

namespace lexring {
namespace {

std::int64_t common(const std::vector<MeasuredModel>& models, std::int64_t MeasuredModel::*field) {
  const auto same = [&](const MeasuredModel& model) { return model.*field == models.front().*field; };
  return !models.empty() && std::all_of(models.begin(), models.end(), same) ? models.front().*field : 0;
}

void summarise(Series& series, const EvaluationResults& results) {
  const std::int64_t base_length = results.model_of(series).base_length;
  const Cell* base = nullptr;
  for (Cell& cell : series.cells) {
    if (!cell.measured()) continue;
    cell.loss = mean_loss(clustered(cell.segments, results.segment_ends, cluster_tokens({cell.length})));
    cell.perplexity = std::exp(cell.loss.mean);
    if (cell.length == base_length) base = &cell;
  }
  if (base == nullptr) return;
  for (Cell& cell : series.cells) {
    if (!cell.measured() || &cell == base) continue;
    const std::int64_t cluster = cluster_tokens({cell.length, base_length});
    cell.difference = paired_difference(clustered(cell.segments, results.segment_ends, cluster),
                                        clustered(base->segments, results.segment_ends, cluster));
  }
}

}  // namespace

std::int64_t EvaluationResults::train_length() const { return common(models, &MeasuredModel::train_length); }
std::int64_t EvaluationResults::base_length() const { return common(models, &MeasuredModel::base_length); }

std::int64_t base_length(const std::vector<std::int64_t>& lengths, std::int64_t train_length) {
  std::int64_t base = 0;
  for (const std::int64_t length : lengths) {
    if (length <= train_length && length > base) base = length;
  }
  return base == 0 && !lengths.empty() ? lengths.front() : base;
}

void prepare_segments(EvaluationResults& results) {
  std::vector<std::int64_t> clusters;
  for (const std::int64_t length : results.lengths) clusters.push_back(cluster_tokens({length}));
  for (MeasuredModel& model : results.models) {
    model.base_length = base_length(results.lengths, model.train_length);
    for (const std::int64_t length : results.lengths) clusters.push_back(cluster_tokens({length, model.base_length}));
  }
  results.segment_ends = segment_ends(results.tokens, clusters);
}

void summarise(EvaluationResults& results) {
  for (Series& series : results.series) summarise(series, results);
}

}  // namespace lexring
