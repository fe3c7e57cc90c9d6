/// How far what ranks computed of a golden case is from its reference, and how far it may be.
#pragma once

#include <string>
#include <vector>

#include "framework/io/hdf5_file.h"
#include "jobs/training/replica.h"
#include "models/transformer.h"

namespace lexring {

/// Largest errors allowed, relative to the norm of the reference tensor; 0: not compared.
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

struct GoldenResult {
  enum class Verdict { passed, failed, not_supported };
  Verdict verdict = Verdict::passed;
  std::string reason;    ///< why it is not supported
  std::string worst;     ///< the tensor nearest to, or furthest beyond, its tolerance
  double error = 0;      ///< of that tensor
  double tolerance = 0;  ///< of that tensor
};

/// What the first AdamW update, lr g / (|g| + eps), makes of the rounding of gradients near eps: an element whose
/// gradient is 3e-8 moves by 2 lr when rounding turns its sign, however near its gradient is to the reference's.
class FirstUpdate {
 public:
  /// Of the gradients of the first step, ours and those of the case.
  FirstUpdate(const Hdf5File& file, const std::string& name, Replica& replica, double lr, double eps);
  /// How much of the loss of a later step comes from that difference, to first order: its product with that step's
  /// gradients. Collective.
  double share_of_loss(Replica& replica, Communicator& world) const;

 private:
  std::vector<std::vector<double>> differences_;  // of this rank's rows, ours - theirs
};

/// Keeps in a result the comparison that is furthest along to its tolerance, or beyond it.
class GoldenComparison {
 public:
  explicit GoldenComparison(GoldenResult& result) : result_(result) {}

  /// `difference` relative to `scale`, or as it is where that is 0.
  void add(const std::string& what, double difference, double scale, double tolerance);
  /// A tensor that every rank has whole.
  void add(const std::string& what, const Tensor& ours, const std::vector<double>& reference, double tolerance);
  /// Values or gradients (`tensor`) of all parameters with those in the group `group` of a case: each rank compares the
  /// rows that it owns, and all have the same sums; values after the gradients that changed them. `least`:
  /// GoldenTolerance::least_gradient. Collective.
  void add_parameters(const std::string& group, const Hdf5File& file, const std::string& name, Replica& replica,
                      Tensor Parameter::*tensor, Communicator& world, double tolerance, double least = 0);

 private:
  GoldenResult& result_;
  std::vector<bool> vanished_;  ///< whose gradients were 0, by parameter
};

}  // namespace lexring
