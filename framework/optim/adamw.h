/// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2; decay multiplied by the learning rate,
/// as in PyTorch).
///
/// What decays is said by each parameter (Parameter::decayed): in a model, matrices and tables, not biases and norms.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter.h"

namespace lexring {

struct AdamWHyper {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
};

/// Throws UsageError, naming the key, when a value is out of range.
void check(const AdamWHyper& hyper);

/// Averages of one parameter's gradients, shape and dtype of its value.
struct Moments {
  Tensor first;
  Tensor second;
};

/// State of the optimizer beside the parameters (or rows of parameters) it was made for, in their order.
class AdamWOptimizer {
 public:
  /// Moments start at 0. Storage of `parameters` is shared. `backend` must outlive it.
  AdamWOptimizer(Backend& backend, std::vector<Parameter> parameters, const AdamWHyper& hyper);

  /// One step: gradients are multiplied by `gradient_scale` first (clipping); compute copies are rewritten in the same
  /// pass. Values that have a domain are brought back into it.
  void step(double lr, double gradient_scale = 1.0);

  /// Steps taken; set when resuming (bias correction depends on it).
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// By parameter, for checkpoints.
  std::vector<Moments>& moments() { return moments_; }

 private:
  Backend* backend_;
  std::vector<Parameter> parameters_;
  AdamWHyper hyper_;
  std::int64_t steps_ = 0;
  std::vector<Moments> moments_;
};

}  // namespace lexring
