#include "parallel/tensor/vocabulary.h"

#include <algorithm>
#include <optional>

#include "framework/ops/linear_cross_entropy.h"

namespace lexring {
namespace {

struct Slice {
  std::int64_t first, end;
  bool holds(std::int64_t id) const { return id >= first && id < end; }
};

Slice slice_of(std::int64_t vocab, const Communicator& group) {
  const auto borders = even_borders(vocab, group.size());
  const auto r = static_cast<std::size_t>(group.rank());
  return {borders[r], borders[r + 1]};
}

/// Starts to send slot `rank` of `slots` [R, ...] to everybody; the others' arrive.
Pending start_gather_slots(const Tensor& slots, Communicator& group) {
  return group.start_all_gather({slots.raw(), slots.bytes()}, slots.dtype(),
                                even_borders(slots.elements(), group.size()));
}

/// Loss and gradients, a chunk of rows at a time, in two steps with a message between them.
class ChunkedLoss {
 public:
  ChunkedLoss(Tape& tape, Tensor h, const Weight& weight, const Tensor& targets, double scale, double soft_cap,
              Communicator& group)
      : nll(tape.runtime(), {h.rows()}, master_dtype(h.dtype())),
        backend_(tape.backend()),
        weight_(weight),
        h_(std::move(h)),
        targets_(targets),
        scale_(scale),
        soft_cap_(soft_cap),
        group_(group) {
    if (tape.recording()) dh = Tensor(tape.runtime(), h_.shape(), h_.dtype());
  }

  struct Chunk {
    std::int64_t first, count;
    Tensor logits, statistics;  ///< [count, W], [R, count, 2]
    Pending coming;
  };

  Chunk begin(std::int64_t first, std::int64_t count) const {
    Runtime& runtime = backend_.runtime();
    Chunk chunk{first,
                count,
                Tensor(runtime, {count, weight_.compute.dim(0)}, nll.dtype()),
                Tensor(runtime, {group_.size(), count, 2}, nll.dtype()),
                {}};
    backend_.linear(h_.slice(first, count), weight_.compute, Tensor(), chunk.logits);
    if (soft_cap_ > 0) backend_.soft_cap(chunk.logits, soft_cap_);
    backend_.logits_statistics(chunk.logits, targets_.slice(first, count),
                               chunk.statistics.slice(group_.rank(), 1).reshape({count, 2}));
    chunk.coming = start_gather_slots(chunk.statistics, group_);
    return chunk;
  }

  void finish(Chunk chunk) const {
    Runtime& runtime = backend_.runtime();
    const Tensor targets = targets_.slice(chunk.first, chunk.count);
    const Tensor lse(runtime, {chunk.count}, nll.dtype());
    chunk.coming.wait();
    backend_.merge_logits_statistics(chunk.statistics, targets, lse, nll.slice(chunk.first, chunk.count));
    if (!dh.defined()) return;
    const Tensor dlogits(runtime, chunk.logits.shape(), h_.dtype()), dh_chunk = dh.slice(chunk.first, chunk.count);
    backend_.logits_gradient(chunk.logits, targets, lse, scale_, dlogits);
    if (soft_cap_ > 0) backend_.soft_cap_backward(chunk.logits, soft_cap_, dlogits);
    backend_.linear_backward_weight(dlogits, h_.slice(chunk.first, chunk.count), weight_.gradient, Tensor());
    if (dlogits.dim(1) == 0) {  // an empty slice of the vocabulary
      backend_.fill(dh_chunk, 0.0);
    } else {
      backend_.linear_backward_input(dlogits, weight_.compute, dh_chunk);
    }
  }

  Tensor nll;  ///< [N]
  Tensor dh;   ///< [N, D] this slice's part; undefined when not recording

 private:
  Backend& backend_;
  const Weight& weight_;
  Tensor h_, targets_;
  double scale_, soft_cap_;
  Communicator& group_;
};

}  // namespace

std::vector<std::int32_t> slice_ids(const std::vector<std::int32_t>& ids, std::int64_t vocab,
                                    const Communicator& group) {
  const Slice slice = slice_of(vocab, group);
  std::vector<std::int32_t> here = ids;
  for (std::int32_t& id : here) id = slice.holds(id) ? id - static_cast<std::int32_t>(slice.first) : -1;
  return here;
}

std::vector<std::int32_t> slice_targets(const std::vector<std::int32_t>& targets, std::int64_t vocab,
                                        const Communicator& group) {
  const Slice slice = slice_of(vocab, group);
  std::vector<std::int32_t> here = targets;
  for (std::int32_t& target : here) {
    if (target >= 0)
      target = static_cast<std::int32_t>(slice.holds(target) ? target - slice.first : slice.end - slice.first);
  }
  return here;
}

Var vocabulary_embedding(Tape& tape, const Lookup& tokens, const PositionTerms& positions, Dtype residual,
                         const RowShards& shards) {
  if (shards.alone()) {
    std::vector<Lookup> lookups = {tokens};
    if (positions.lookup.table.value.defined()) lookups.push_back(positions.lookup);
    return embedding(tape, lookups, positions.constant, residual);
  }
  require(tokens.index.elements() == shards.rows(), "vocabulary_embedding: {} tokens came where {} ranks share {} rows",
          tokens.index.elements(), shards.group().size(), shards.rows());
  Backend& backend = tape.backend();
  Tensor partial(tape.runtime(), {shards.rows(), tokens.table.value.row_elements()}, residual);
  backend.embedding(tokens.index, tokens.table.value, partial, Write::overwrite);
  const Tensor own = partial.slice(shards.first(), shards.count());
  const bool looked_up = positions.lookup.table.value.defined();
  if (looked_up) backend.embedding(positions.lookup.index, positions.lookup.table.value, own, Write::accumulate);
  if (positions.constant.defined()) backend.add(positions.constant, own);
  Var x(start_reduce_scatter_rows(std::move(partial), shards).wait());
  tape.record([&backend, tokens, positions, looked_up, shards, dx_slot = x.slot()] {
    const Tensor dx = dx_slot.take();
    if (!dx.defined()) return;
    const bool trained = tokens.table.gradient.defined();
    PendingRows all_dx = trained ? start_gather_rows(dx, shards) : PendingRows();
    if (looked_up && positions.lookup.table.gradient.defined())
      backend.embedding_backward(positions.lookup.index, dx, positions.lookup.table.gradient);
    if (trained) backend.embedding_backward(tokens.index, all_dx.wait(), tokens.table.gradient);
  });
  return x;
}

Tensor vocabulary_cross_entropy(Tape& tape, const Var& h, const Weight& weight, const Tensor& targets,
                                std::int64_t vocab, double scale, const RowShards& shards, double soft_cap) {
  if (shards.alone()) return linear_cross_entropy(tape, h, weight, targets, scale, soft_cap);
  const std::int64_t rows = shards.rows(), ranks = shards.group().size();
  require(h.value().dim(1) == weight.compute.dim(1) && h.value().dtype() == weight.compute.dtype() &&
              targets.elements() == rows,
          "vocabulary_cross_entropy: h {} and targets {} do not fit W {}", to_string(h.value().shape()),
          to_string(targets.shape()), to_string(weight.compute.shape()));
  ChunkedLoss loss(tape, start_gather_rows(h.value(), shards).wait(), weight, targets, scale, soft_cap, shards.group());
  const std::int64_t largest = loss_chunk_rows((vocab + ranks - 1) / ranks, loss.nll.dtype(),
                                               tape.runtime().device().type);  // the same on all ranks
  std::optional<ChunkedLoss::Chunk> before;
  for (std::int64_t first = 0; first < rows; first += largest) {
    ChunkedLoss::Chunk next = loss.begin(first, std::min(largest, rows - first));
    if (before) loss.finish(*std::exchange(before, std::nullopt));
    before.emplace(std::move(next));
  }
  if (before) loss.finish(*std::exchange(before, std::nullopt));
  if (tape.recording()) {
    Tensor dh = start_reduce_scatter_rows(std::move(loss.dh), shards).wait();
    tape.record([&backend = tape.backend(), dh_slot = h.slot(), kept = tape.keep(std::move(dh))] {
      dh_slot.accumulate(backend, kept());
    });
  }
  return loss.nll;
}

Tensor vocabulary_logits(Backend& backend, const Tensor& h, const Weight& weight, std::int64_t vocab,
                         Communicator& group, double soft_cap) {
  const Dtype master = master_dtype(h.dtype());
  const Tensor own(backend.runtime(), {h.rows(), weight.compute.dim(0)}, master);
  backend.linear(h, weight.compute, Tensor(), own);
  if (soft_cap > 0) backend.soft_cap(own, soft_cap);
  if (group.size() == 1) return own;
  const auto borders = even_borders(vocab, group.size());
  std::vector<std::int64_t> elements = borders;
  for (std::int64_t& border : elements) border *= h.rows();
  const Tensor slices(backend.runtime(), {h.rows() * vocab}, master),
      whole(backend.runtime(), {h.rows(), vocab}, master);
  const auto place = [&](std::size_t r) { return slices.slice(elements[r], elements[r + 1] - elements[r]); };
  const auto rank = static_cast<std::size_t>(group.rank());
  backend.runtime().copy(place(rank).raw(), own.raw(), own.bytes());
  group.start_all_gather({slices.raw(), slices.bytes()}, master, elements).wait();
  for (std::size_t r = 0; r + 1 < borders.size(); ++r) {
    const std::int64_t width = borders[r + 1] - borders[r];
    backend.copy(place(r).reshape({h.rows(), width}), {whole, borders[r], width});
  }
  return whole;
}

}  // namespace lexring
