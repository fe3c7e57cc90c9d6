#include "parallel/sequence/attention.h"

#include "parallel/sequence/passes.h"

namespace lexring {

Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const BiasTerms& bias, const Var& qkv) {
  require(ring.size() == tables->partition->ring(), "a partition over a ring of {} was given to group {} of {}",
          tables->partition->ring(), ring.name(), ring.size());
  const MemoryPurpose purpose("attention: output, state, gradients");
  const std::vector<Tensor> attended = tape.once([&] {
    const AttendedRows rows = forward_pass(tape.backend(), ring, *tables, bias, bias.sums.value(), qkv.value());
    return std::vector<Tensor>{rows.output, rows.lse};
  });
  Var output(attended[0]);
  BiasTerms kept_bias = bias;
  kept_bias.sums = Var();  // kept as activations are
  tape.record([&backend = tape.backend(), &ring, tables, bias = std::move(kept_bias), kept_sums = tape.keep(bias.sums),
               sums_slot = bias.sums.slot(), kept_qkv = tape.keep(qkv), kept_lse = tape.keep(attended[1]),
               kept_output = tape.keep(output), o_slot = output.slot(), qkv_slot = qkv.slot()]() mutable {
    const AttendedRows back{std::exchange(kept_output, {})(), kept_lse()};
    Tensor doutput = o_slot.take();
    if (!doutput.defined()) {  // other places may need this one's keys: it takes part
      doutput = Tensor(backend.runtime(), back.output.shape(), back.output.dtype());
      backend.fill(doutput, 0.0);
    }
    const Tensor delta(backend.runtime(), back.lse.shape(), back.lse.dtype());
    backend.attention_delta(back.output, doutput, delta);
    AttentionGradients gradients =
        backward_pass(backend, ring, *tables, bias, kept_sums(), kept_qkv(), back, doutput, delta);
    qkv_slot.accumulate(backend, std::move(gradients.dqkv));
    std::move(gradients.bias).accumulate(backend, bias);
    if (gradients.sums.defined()) sums_slot.accumulate(backend, std::move(gradients.sums));
  });
  return output;
}

}  // namespace lexring
