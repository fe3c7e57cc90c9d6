/// What an evaluation measures: one cell per pattern and length, all over the same tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/evaluation/statistics.h"

namespace lexring {

inline constexpr std::int64_t segment_tokens = 4096;  ///< tokens of a segment, for standard errors

/// Mean loss of the targets at positions [first, last) of their window.
struct PositionLoss {
  std::int64_t first = 0, last = 0;
  std::int64_t tokens = 0;
  double loss = 0;
};

struct Cell {
  std::int64_t length = 0;
  std::string not_measured;  ///< why there is nothing here ("beyond max_length"); empty: measured
  SegmentSums segments;
  std::int64_t tokens = 0;      ///< counted targets
  std::int64_t not_finite = 0;  ///< of them, those whose loss is NaN or infinite; their sum is shown as it is
  Estimate loss;                ///< nats per token
  double perplexity = 0;
  double bits_per_byte = 0;            ///< NaN where the tokens stand for no text
  std::optional<Estimate> difference;  ///< to the base length of the same pattern, paired by segment; none for the base itself
  std::vector<PositionLoss> by_position;
  double seconds = 0;
  double tokens_per_second = 0;
  double peak_mib = 0;  ///< most bytes in tensors at one time, of the rank that had most
  bool measured() const { return not_measured.empty(); }
};

struct PatternRow {
  std::string name;         ///< "blockwise"
  std::string description;  ///< "blockwise, block 128"
  std::vector<Cell> cells;  ///< by length
};

struct Resolution {
  std::int64_t length = 0;
  double value = 0;  ///< mean over layers
  std::vector<double> by_layer;
};

struct EvaluationResults {
  std::string checkpoint, run, data, data_source, data_hash, model, device, precision, documents, machine, date;
  std::int64_t step = 0, parameters = 0, ranks = 1;
  std::int64_t train_length = 0;  ///< 1x
  std::int64_t base_length = 0;   ///< differences are to this one: the training length, or the evaluated length nearest below it
  std::int64_t tokens = 0;        ///< scored stream, from the dataset's first token
  std::vector<std::int64_t> lengths;
  std::vector<PatternRow> patterns;
  std::vector<Resolution> resolution;
};

/// Fills differences, base length, loss, perplexity of all cells from their sums.
void summarise(EvaluationResults& results);

}  // namespace lexring
