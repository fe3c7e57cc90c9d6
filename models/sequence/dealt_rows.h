/// The rows of a batch, dealt to the ranks of cp.
#pragma once

#include <vector>

#include "models/batch.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/partition.h"

namespace lexring {

class DealtRows {
 public:
  /// `chunks`: what each rank of `group` holds of the batch.
  DealtRows(Backend& backend, Communicator& group, const ModelBatch& batch,
            const std::vector<std::vector<Chunk>>& chunks);

  /// This rank's tokens, ids and targets.
  const ModelBatch& own() const { return own_; }
  /// Their places in the batch.
  const std::vector<std::int64_t>& places() const { return places_[static_cast<std::size_t>(group_->rank())]; }
  /// [N, ...] in the order of the batch, from everybody's rows. Collective.
  Tensor gather(const Tensor& rows) const;

 private:
  Backend* backend_;
  Communicator* group_;
  std::vector<std::vector<std::int64_t>> places_;  ///< by rank
  ModelBatch own_;
};

}  // namespace lexring
