/// One golden case: read from its file, run, compared.
#pragma once

#include <string>

#include "framework/io/hdf5_file.h"
#include "models/transformer.h"

namespace lexring {

/// Largest errors allowed, relative to the norm of the reference tensor; 0: not compared.
struct GoldenTolerance {
  double loss;
  double logits;
  double gradient;
  double step_losses;  ///< the loss of each of the three AdamW steps
  double parameters;   ///< after three AdamW steps, and the loss then
};
GoldenTolerance golden_tolerance(Precision precision);

struct GoldenResult {
  enum class Verdict { passed, failed, not_supported };
  Verdict verdict = Verdict::passed;
  std::string reason;    ///< why it is not supported
  std::string worst;     ///< the tensor nearest to, or furthest beyond, its tolerance
  double error = 0;      ///< of that tensor
  double tolerance = 0;  ///< of that tensor
};

/// Builds the model of case `name` with its weights, and compares: the whole of what the ranks of `context` (dp = 1)
/// computed together, so that all of them come to the same verdict. Collective. Throws Error when the file is not a
/// golden file, UsageError when device and precision do not fit.
GoldenResult run_golden_case(const Hdf5File& file, const std::string& name, const ModelRuntime& runtime,
                             const Context& context, Backend& backend);

}  // namespace lexring
