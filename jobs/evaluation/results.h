/// What an evaluation measures: one cell per series and length, all over the same tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "datasets/batches.h"
#include "jobs/evaluation/statistics.h"
#include "models/config.h"
#include "models/masking.h"

namespace lexring {

/// Mean loss of the targets at positions [first, last) of their window.
struct PositionLoss {
  std::int64_t first = 0, last = 0;
  std::int64_t tokens = 0;
  double loss = 0;
};

struct Cell {
  std::int64_t length = 0;
  std::string not_measured;   ///< why there is nothing here ("beyond max_length"); empty: measured
  double scaling_factor = 1;  ///< of the positions
  SegmentSums segments;
  std::int64_t tokens = 0;      ///< counted targets
  std::int64_t not_finite = 0;  ///< of them, those whose loss is NaN or infinite; their sum is shown as it is
  Estimate loss;                ///< nats per token
  double perplexity = 0;
  double bits_per_byte = 0;  ///< NaN where the tokens stand for no text
  std::optional<Estimate>
      difference;  ///< to the base length of the same series, paired by cluster; none for the base itself
  std::vector<PositionLoss> by_position;
  double seconds = 0;
  double tokens_per_second = 0;
  double peak_mib = 0;  ///< most bytes in tensors at one time, of the rank that had most
  bool measured() const { return not_measured.empty(); }
};

/// A checkpoint that was measured.
struct MeasuredModel {
  std::string name;              ///< tells it from the others
  std::string checkpoint, run;   ///< path; name of the run's directory
  std::string model, positions;  ///< "4 layers, width 256, ..."; "rope"
  std::string training;          ///< "1,234 steps of 16 sequences, learning rate 0.002, ..."
  std::string precision;         ///< of the evaluation
  std::int64_t step = 0, parameters = 0;
  std::int64_t train_length = 0;  ///< 1x
  std::int64_t base_length =
      0;  ///< differences are to this one: the training length, or the evaluated length nearest below it
};

/// One model under one rescaling of its positions and one attention pattern, at every length.
struct Series {
  std::string name;           ///< what tells it from the others: "blockwise", "rope (yarn), blockwise 64"
  std::string position_part;  ///< of the name, without the pattern: "rope (yarn)"; empty where only patterns differ
  std::size_t model = 0;      ///< of EvaluationResults::models
  PositionConfig position;
  bool factor_follows_length = false;  ///< scaling_factor = max(1, length / original_length), not position's
  AttentionConfig attention;
  std::vector<Cell> cells;  ///< by length
};

struct Resolution {
  std::string name;  ///< Series::position_part: attention resolution does not depend on the pattern
  std::int64_t length = 0;
  double value = 0;  ///< mean over layers
  std::vector<double> by_layer;
};

struct EvaluationResults {
  std::string data, data_source, data_hash, device, machine, date, version, command;
  Documents documents = Documents::mask;
  EndOfDocument end_of_document = EndOfDocument::token;
  Objective objective = Objective::causal;
  MaskingConfig mlm;
  std::int64_t landmark_every = 0;  ///< as attention.landmark_every; `tokens` and `lengths` count landmarks too
  std::int64_t ranks = 1;
  std::int64_t tokens = 0;                 ///< scored stream, from the dataset's first token
  std::vector<std::int64_t> segment_ends;  ///< of the stream
  std::vector<std::int64_t> lengths;       ///< ascending
  std::vector<MeasuredModel> models;
  std::vector<Series> series;
  std::vector<Resolution> resolution;

  const MeasuredModel& model_of(const Series& one) const { return models[one.model]; }
  /// Of all models; 0: they differ.
  std::int64_t train_length() const;
  std::int64_t base_length() const;
};

/// The training length, or the evaluated length nearest below it; the shortest one where all are longer.
std::int64_t base_length(const std::vector<std::int64_t>& lengths, std::int64_t train_length);

/// Fills base lengths and segment_ends, before cells are measured.
void prepare_segments(EvaluationResults& results);

/// Fills loss, perplexity and differences of all cells from their sums.
void summarise(EvaluationResults& results);

}  // namespace lexring
