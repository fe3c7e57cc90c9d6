/// Masked-language modelling (Devlin et al. 2019, BERT): some tokens of a text are hidden, and a model that sees the
/// text on both sides of them tells which they were.
///
/// Which tokens, and what stands in their place, is a pure function of (seed, token): the same on every mesh and after
/// every resume.
#pragma once

#include <cstdint>

#include "framework/base/words.h"
#include "models/batch.h"

namespace lexring {

/// What a model learns: the next token, or tokens that are hidden.
enum class Objective { causal, mlm };
constexpr auto words(Objective) {
  return std::to_array<Word<Objective>>({{Objective::causal, "causal"}, {Objective::mlm, "mlm"}});
}

struct MaskingConfig {
  double share = 0.15;  ///< of all tokens that the model has to tell
  double masked = 0.8;  ///< of these, those that it sees as the mask
  double random = 0.1;  ///< those that it sees as another token, drawn evenly; the rest it sees as they are
  bool operator==(const MaskingConfig&) const = default;
};

/// Throws UsageError where shares make no sense.
void check(const MaskingConfig& config);

/// Hides tokens of batches: `targets` become the ids of those that the model has to tell, -1 elsewhere.
struct Masking {
  MaskingConfig config;
  std::int64_t vocab;  ///< of the model; the mask is its last id

  /// Sequences that are samples `first`, `first` + 1, ... of the training with this seed.
  void hide_samples(ModelBatch& batch, std::uint64_t seed, std::uint64_t first) const;
  /// For evaluation, rows that are tokens `first`, `first` + 1, ... of a data set: windows of any length hide the same.
  void hide_tokens(ModelBatch& batch, std::int64_t first) const;
};

}  // namespace lexring
