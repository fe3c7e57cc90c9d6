/// How far what ranks computed of a golden case is from its reference, and how far it may be.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "framework/io/hdf5_file.h"
#include "jobs/training/replica.h"
#include "models/transformer.h"

namespace lexring {

/// What a case says of its three steps.
constexpr AdamWHyper golden_adamw = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
constexpr double golden_lr = 1e-2;

/// Errors that are always allowed, relative to the norm of the reference; 0: not compared.
struct GoldenTolerance {
  double loss;
  double logits;
  double gradient;
  double step_losses;         ///< the loss of each of the three AdamW steps
  double parameters;          ///< after three AdamW steps, and the loss then
  double least_gradient = 0;  ///< part of the norm of all gradients, with which one of a single number that is less is
                              ///< compared
};
GoldenTolerance golden_tolerance(Precision precision);

/// A number or tensor of a case: the norms of ours minus the reference, and of the reference.
struct GoldenDifference {
  std::string what;  ///< "logits", "loss", "gradients/layers.0.ffn.up.weight", "loss after 2 steps"
  double difference;
  double scale;      ///< what `difference` is divided by; 0: by nothing
  double tolerance;  ///< relative
};
/// Takes the case's steps with a replica that has its weights, and tells of all that `tolerance` compares; the same on
/// every rank. Collective.
void compare_case(Replica& replica, const Hdf5File& file, const std::string& name, const ModelBatch& batch,
                  Communicator& world, const GoldenTolerance& tolerance,
                  const std::function<void(const GoldenDifference&)>& tell);

/// By how much the exact numbers of a case move (GoldenDifference::difference, by `what`).
using GoldenMoves = std::map<std::string, double>;

struct GoldenResult {
  enum class Verdict { passed, failed, not_supported };
  Verdict verdict = Verdict::passed;
  std::string reason;    ///< why it is not supported
  std::string worst;     ///< what is nearest to, or furthest beyond, its tolerance
  double error = 0;      ///< of that, relative
  double tolerance = 0;  ///< of that

  /// Takes one comparison in. `moves` is asked once an error is larger than its tolerance: then twice as much as it
  /// moves is allowed.
  void add(const GoldenDifference& compared, const std::function<const GoldenMoves&()>& moves);
};

}  // namespace lexring
