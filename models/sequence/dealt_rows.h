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
  DealtRows(Backend& backend, Communicator& group, const ModelBatch& batch, std::vector<std::vector<Chunk>> chunks);

  /// This rank's tokens, ids and targets.
  const ModelBatch& own() const { return own_; }
  /// Their places in the batch.
  const std::vector<std::int64_t>& places() const { return places_; }
  /// [N, ...] in the order of the batch, from everybody's rows. Collective.
  Tensor gather(const Tensor& rows) const;
  /// `whole`, f32 (f64), of the rows of the batch, becomes the sum over ranks. Collective.
  void sum(const Tensor& whole) const;
  /// This rank's rows of those of the batch.
  Tensor own_of(const Tensor& whole) const;

 private:
  const std::vector<Chunk>& own_chunks() const { return chunks_[static_cast<std::size_t>(group_->rank())]; }

  Backend* backend_;
  Communicator* group_;
  std::vector<std::vector<Chunk>> chunks_;  ///< by rank
  std::vector<std::int64_t> places_;
  ModelBatch own_;
};

}  // namespace lexring
