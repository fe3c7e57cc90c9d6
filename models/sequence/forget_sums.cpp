#include "models/sequence/forget_sums.h"

namespace lexring {

Var forget_sums(Tape& tape, const std::vector<TokenTable::Sequence>& sequences,
                const std::shared_ptr<const DealtRows>& dealt, const Var& logits) {
  const MemoryPurpose purpose("attention: sums of a forget gate");
  Backend& backend = tape.backend();
  const auto of_all = [dealt](const Tensor& own) { return dealt ? dealt->gather(own) : own; };
  const auto sums_of = [&backend, sequences, of_all](const Tensor& own) {
    const Tensor all = of_all(own);
    Tensor sums(backend.runtime(), {all.dim(0), 2 * all.dim(1)}, master_dtype(all.dtype()));
    for (const TokenTable::Sequence& s : sequences)
      backend.forget_sums(all.slice(s.first, s.count), {}, sums.slice(s.first, s.count));
    return sums;
  };
  const Kept kept = tape.keep(logits);
  const Var sums =
      kept ? Var(sums_of(logits.value()), [sums_of, kept] { return sums_of(kept()); }) : Var(sums_of(logits.value()));
  tape.record([&backend, sequences, dealt, of_all, kept, rows = sums.value().dim(0), heads = logits.value().dim(1),
               dtype = sums.value().dtype(), logits_slot = logits.slot(), slot = sums.slot()] {
    Tensor dsums = slot.take();
    if (!dsums.defined()) {  // other ranks wait for this one's part
      dsums = Tensor(backend.runtime(), {rows, heads}, dtype);
      backend.fill(dsums, 0.0);
    }
    if (dealt) dealt->sum(dsums);
    const Tensor all = of_all(kept()), dlogits(backend.runtime(), all.shape(), all.dtype());
    for (const TokenTable::Sequence& s : sequences) {
      backend.forget_sums_backward(all.slice(s.first, s.count), dsums.slice(s.first, s.count),
                                   dlogits.slice(s.first, s.count));
    }
    logits_slot.accumulate(backend, dealt ? dealt->own_of(dlogits) : dlogits);
  });
  return sums;
}

}  // namespace lexring
