#include "parallel/sequence/attention.h"

#include "parallel/sequence/passes.h"

namespace lexring {

SequenceTables make_sequence_tables(std::shared_ptr<const Partition> cut_by, int place, const AttentionForm& form,
                                    const Visibility& visible, Exchange exchange, const RotaryMaker& rotary) {
  constexpr std::int64_t most_own_keys = 8192;  // what is computed of them apart shall not grow with the sequence
  const Partition& partition = *cut_by;
  SequenceTables tables;
  tables.partition = std::move(cut_by);
  tables.visible = visible;
  tables.schedule = make_schedule(partition, visible, exchange);
  tables.form = form;
  const auto rows_of = [&](TokenTable tokens, Visibility seen) {
    RotaryTable turned = rotary ? rotary(tokens) : RotaryTable();
    return make_rows(std::move(tokens), std::move(turned), std::move(seen));
  };
  const std::vector<Chunk>& own = partition.place_chunks(place);
  tables.own = rows_of(tokens_of(partition.whole(), own), take_rows(visible, row_indices(own)));
  for (const Route& route : tables.schedule.routes) {
    std::vector<SharedRows>& hops = tables.arriving.emplace_back(route.stops.size());
    for (std::size_t hop = 0; hop < hops.size(); ++hop) {
      const Stop& stop = route.stops[hop];
      if (stop.place == place && stop.used)
        hops[hop] = rows_of(tokens_at(partition.whole(), partition.place_chunks(route.source), stop.rows), {});
    }
  }
  if (tables.schedule.steps() == 0) return tables;
  const auto parts = [&](const RowSet& half) {
    std::vector<KeyRows> keys;
    for (RowSet& rows : cut(half, most_own_keys)) {
      TokenTable tokens = tokens_at(partition.whole(), own, rows);
      keys.push_back({std::move(rows), rows_of(std::move(tokens), {})});
    }
    return keys;
  };
  const auto [earlier, later] = halves(own);
  tables.earlier = parts(earlier), tables.later = parts(later);
  return tables;
}

Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const BiasTerms& bias, const Var& qkv) {
  require(ring.size() == tables->partition->ring(), "a partition over a ring of {} was given to group {} of {}",
          tables->partition->ring(), ring.name(), ring.size());
  const MemoryPurpose purpose("attention: output, state, gradients");
  const ScoreBias added = bias.value();
  const AttendedRows attended = forward_pass(tape.backend(), ring, *tables, added, qkv.value());
  Var output(attended.output);
  tape.record([&backend = tape.backend(), &ring, tables, added, input = qkv.value(), lse = attended.lse,
               o = output.value(), o_slot = output.slot(), qkv_slot = qkv.slot(),
               bias_slot = bias.by_distance.slot()]() mutable {
    Tensor doutput = o_slot.take();
    if (!doutput.defined()) {  // other places may need this one's keys: it takes part
      doutput = Tensor(backend.runtime(), o.shape(), o.dtype());
      backend.fill(doutput, 0.0);
    }
    const Tensor delta(backend.runtime(), lse.shape(), lse.dtype());
    backend.attention_delta(o, doutput, delta);
    o = Tensor();
    AttentionGradients gradients = backward_pass(backend, ring, *tables, added, input, doutput, lse, delta);
    qkv_slot.accumulate(backend, std::move(gradients.dqkv));
    if (gradients.dby_distance.defined()) bias_slot.accumulate(backend, std::move(gradients.dby_distance));
  });
  return output;
}

}  // namespace lexring
