#include "parallel/sequence/landmarks.h"

#include "parallel/sequence/travel.h"

namespace lexring {

namespace {

/// Rows of all places, one place after the other, and in the order of the batch.
class GatheredRows {
 public:
  GatheredRows(Backend& backend, Communicator& ring, const Partition& partition)
      : backend_(backend), ring_(ring), partition_(partition) {
    for (int place = 0; place < ring.size(); ++place) borders_.push_back(borders_.back() + partition.place_rows(place));
  }

  /// [M, width] in the order of the batch.
  Tensor gather(const Columns& own) const {
    Tensor whole(backend_.runtime(), {borders_.back(), own.width}, own.dtype());
    const Tensor by_place(backend_.runtime(), whole.shape(), own.dtype()), ours = rows_of(by_place, ring_.rank());
    backend_.copy(own, ours);
    Messages messages;
    for (int place = 0; place < ring_.size(); ++place) {
      if (place == ring_.rank()) continue;
      messages.send(place, ours);
      messages.receive(place, rows_of(by_place, place));
    }
    messages.start(ring_);
    messages.wait();
    for_each_piece([&](std::int64_t at, const Chunk& chunk) {
      backend_.copy(by_place.slice(at, chunk.count), spread(whole, chunk));
    });
    return whole;
  }

  /// [n, width], this place's rows of the sum of everybody's `whole` [M, width], in the order of the places.
  Tensor sum(const Tensor& whole) const {
    const Tensor by_place(backend_.runtime(), whole.shape(), whole.dtype());
    for_each_piece([&](std::int64_t at, const Chunk& chunk) {
      backend_.copy(spread(whole, chunk), by_place.slice(at, chunk.count));
    });
    const Tensor ours = rows_of(by_place, ring_.rank());
    Messages messages;
    std::vector<Tensor> parts;
    for (int place = 0; place < ring_.size(); ++place) {
      const bool own = place == ring_.rank();
      parts.push_back(own ? ours : Tensor(backend_.runtime(), ours.shape(), ours.dtype()));
      if (own) continue;
      messages.send(place, rows_of(by_place, place));
      messages.receive(place, parts.back());
    }
    messages.start(ring_);
    messages.wait();
    Tensor total(backend_.runtime(), ours.shape(), ours.dtype());
    backend_.fill(total, 0.0);
    for (const Tensor& part : parts) backend_.add(part, total);
    return total;
  }

 private:
  Tensor rows_of(const Tensor& by_place, int place) const {
    const std::int64_t first = borders_[static_cast<std::size_t>(place)];
    return by_place.slice(first, borders_[static_cast<std::size_t>(place) + 1] - first);
  }
  /// f(row by place, rows that lie at one distance in the batch). The last of a chunk comes alone: behind it the batch
  /// may have fewer rows than that distance.
  template <class F>
  void for_each_piece(F&& f) const {
    std::int64_t at = 0;
    for (int place = 0; place < ring_.size(); ++place) {
      for (const Chunk& chunk : partition_.place_chunks(place)) {
        const std::int64_t before = chunk.stride == 1 ? chunk.count : chunk.count - 1;
        if (before > 0) f(at, Chunk{chunk.sequence, chunk.first, before, chunk.stride});
        if (before < chunk.count) f(at + before, Chunk{chunk.sequence, chunk.first + before * chunk.stride, 1, 1});
        at += chunk.count;
      }
    }
  }
  /// A chunk's rows of the batch.
  static Columns spread(const Tensor& whole, const Chunk& chunk) {
    const std::int64_t width = whole.dim(1);
    return {whole.slice(chunk.first, chunk.count * chunk.stride).reshape({chunk.count, chunk.stride * width}), 0,
            width};
  }

  Backend& backend_;
  Communicator& ring_;
  const Partition& partition_;
  std::vector<std::int64_t> borders_ = {0};
};

/// use(call) of this place's rows, with the keys of all.
template <class Use>
auto with_call(Backend& backend, Communicator& ring, const LandmarkTables& tables, const BiasTerms& bias,
               const Tensor& qkv, const Use& use) {
  const std::int64_t width = tables.form.key_width();
  const Tensor keys = GatheredRows(backend, ring, *tables.partition).gather(key_value_columns(tables.form, qkv));
  const ScoreBias added = bias.value({});
  return use(LandmarkCall{tables.form,
                          added,
                          tables.queries,
                          tables.keys,
                          split_columns(tables.form, qkv).query,
                          {keys, 0, width},
                          {keys, width, width}});
}

}  // namespace

Var sequence_landmark_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const LandmarkTables>& tables,
                                const BiasTerms& bias, const Var& qkv) {
  require(ring.size() == tables->partition->ring(), "a partition over a ring of {} was given to group {} of {}",
          tables->partition->ring(), ring.name(), ring.size());
  const MemoryPurpose purpose("attention: output, state, gradients");
  const std::vector<Tensor> attended = tape.once([&] {
    return with_call(tape.backend(), ring, *tables, bias, qkv.value(), [&](const LandmarkCall& call) {
      const LandmarkResult result = landmark_forward(tape.backend(), call);
      return std::vector<Tensor>{result.output, result.lse};
    });
  });
  Var output(attended[0]);
  tape.record([&backend = tape.backend(), &ring, tables, bias, kept_qkv = tape.keep(qkv),
               kept_lse = tape.keep(attended[1]), kept_output = tape.keep(output), o_slot = output.slot(),
               qkv_slot = qkv.slot()] {
    const LandmarkResult result{kept_output(), kept_lse()};
    Tensor doutput = o_slot.take();
    if (!doutput.defined()) {  // other places may need this one's keys: it takes part
      doutput = Tensor(backend.runtime(), result.output.shape(), result.output.dtype());
      backend.fill(doutput, 0.0);
    }
    const Tensor x = kept_qkv();
    Tensor dx(backend.runtime(), x.shape(), x.dtype());
    const std::int64_t width = tables->form.key_width();
    const Tensor dkeys(backend.runtime(), {tables->keys->tokens.rows(), 2 * width}, result.lse.dtype());
    BiasGradients dbias(backend, bias);
    with_call(backend, ring, *tables, bias, x, [&](const LandmarkCall& call) {
      landmark_backward(
          backend, call, result, doutput,
          {split_columns(tables->form, dx).query, {dkeys, 0, width}, {dkeys, width, width}, dbias.of({})});
    });
    const Tensor own = GatheredRows(backend, ring, *tables->partition).sum(dkeys);
    Tensor rounded = own;
    if (own.dtype() != dx.dtype()) {
      rounded = Tensor(backend.runtime(), own.shape(), dx.dtype());
      backend.cast(own, rounded);
    }
    backend.copy(rounded, key_value_columns(tables->form, dx));
    std::move(dbias).accumulate(backend, bias);
    qkv_slot.accumulate(backend, std::move(dx));
  });
  return output;
}

}  // namespace lexring
