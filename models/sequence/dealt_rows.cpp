#include "models/sequence/dealt_rows.h"

#include "parallel/sequence/rows.h"

namespace lexring {

DealtRows::DealtRows(Backend& backend, Communicator& group, const ModelBatch& batch,
                     std::vector<std::vector<Chunk>> chunks)
    : backend_(&backend), group_(&group), chunks_(std::move(chunks)), places_(row_indices(own_chunks())) {
  own_.tokens = tokens_of(batch.tokens, own_chunks());
  own_.ids = take_rows(batch.ids, places());
  own_.targets = take_rows(batch.targets, places());
}

Tensor DealtRows::gather(const Tensor& rows) const {
  std::vector<std::int64_t> borders = {0};
  for (const auto& theirs : chunks_) borders.push_back(borders.back() + row_count(theirs));
  Shape shape = rows.shape();
  shape[0] = borders.back();
  const Tensor by_rank(rows.runtime(), shape, rows.dtype()), gathered(rows.runtime(), shape, rows.dtype());
  const auto of_rank = [&](std::size_t r) { return by_rank.slice(borders[r], borders[r + 1] - borders[r]); };
  rows.runtime().copy(of_rank(static_cast<std::size_t>(group_->rank())).raw(), rows.raw(), rows.bytes());
  std::vector<std::int64_t> elements = borders;
  for (std::int64_t& border : elements) border *= rows.row_elements();
  group_->start_all_gather({by_rank.raw(), by_rank.bytes()}, by_rank.dtype(), elements).wait();
  for (std::size_t r = 0; r < chunks_.size(); ++r) put_chunks(*backend_, of_rank(r), chunks_[r], gathered);
  return gathered;
}

void DealtRows::sum(const Tensor& whole) const {
  group_->start_all_reduce({whole.raw(), whole.bytes()}, whole.dtype()).wait();
}

Tensor DealtRows::own_of(const Tensor& whole) const { return take_chunks(*backend_, whole, own_chunks()); }

}  // namespace lexring
