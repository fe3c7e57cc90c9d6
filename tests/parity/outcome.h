/// A case's run of 20 steps, and how far it is from one rank's.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "jobs/config/options.h"
#include "parallel/context.h"

namespace lexring::parity {

/// What a run leaves behind: numbers here, parameters and moments as checkpoints of step 1 and of the last step in
/// `directory`.
struct Outcome {
  std::vector<double> losses, gradient_norms;  ///< by step
  std::string drift;                           ///< a parameter whose copies on two ranks differ in a bit; empty: none
};

/// Trains one step, saves, resumes from what was saved, trains the rest, saves. Collective over the context's world.
Outcome train(const Options& options, const Context& context, const Dataset& data);

/// Whole tensors of a run, f64, by name: gradients of step 1 (from the first moment, with clipping undone) and final
/// parameters.
struct Tensors {
  std::map<std::string, std::vector<double>> gradients, parameters;
};
Tensors read_tensors(const std::filesystem::path& directory, const Options& options, const Outcome& outcome);

/// Largest errors of a run against one rank's, each relative. A tensor is compared by the norm of its difference.
struct Errors {
  double loss = 0, gradient_norm = 0, gradient = 0, parameter = 0;
  std::string worst_gradient, worst_parameter;  ///< names of the tensors
  bool within() const;                          ///< of the tolerances: 1e-5, 1e-4, 1e-5, 1e-4. NaN is not.
};
Errors compare(const Outcome& outcome, const Tensors& tensors, const Outcome& reference, const Tensors& expected);

}  // namespace lexring::parity
