#include "parallel/sequence/tables.h"

namespace lexring {

SequenceTables make_sequence_tables(std::shared_ptr<const Partition> cut_by, int place, const Visibility& visible,
                                    const std::vector<PartPlan>& parts, Exchange exchange, const RotaryMaker& rotary) {
  constexpr std::int64_t most_own_keys = 8192;  // what is computed of them apart shall not grow with the sequence
  const Partition& partition = *cut_by;
  SequenceTables tables;
  tables.partition = std::move(cut_by);
  tables.visible = visible;
  tables.schedule = make_schedule(partition, visible, exchange);
  tables.form = parts.front().form;
  const auto rows_of = [&](TokenTable tokens, Visibility seen) {
    RotaryTable turned = rotary ? rotary(tokens) : RotaryTable();
    return make_rows(std::move(tokens), std::move(turned), std::move(seen));
  };
  const std::vector<Chunk>& own = partition.place_chunks(place);
  const TokenTable tokens = tokens_of(partition.whole(), own);
  const std::vector<std::int64_t> indices = row_indices(own);
  const RotaryTable turned = rotary ? rotary(tokens) : RotaryTable();
  tables.own = make_rows(tokens, turned);
  for (const PartPlan& part : parts) {
    Visibility seen = take_rows(part.visible, indices);
    if (part.position.empty()) {
      tables.parts.push_back({part.form, make_rows(tokens, turned, std::move(seen)), part.later});
      continue;
    }
    std::vector<std::int64_t> from = take_rows(part.position, indices);
    RotaryTable moved = rotary ? rotary({tokens.sequences, from}) : RotaryTable();
    tables.parts.push_back(
        {part.form, make_queries(tokens, std::move(from), std::move(moved), std::move(seen)), part.later});
  }
  for (const Route& route : tables.schedule.routes) {
    std::vector<SharedRows>& hops = tables.arriving.emplace_back(route.stops.size());
    for (std::size_t hop = 0; hop < hops.size(); ++hop) {
      const Stop& stop = route.stops[hop];
      if (stop.place == place && stop.used)
        hops[hop] = rows_of(tokens_at(partition.whole(), partition.place_chunks(route.source), stop.rows), {});
    }
  }
  if (tables.schedule.steps() == 0) return tables;
  const auto keys_of = [&](const RowSet& half) {
    std::vector<KeyRows> keys;
    for (RowSet& rows : cut(half, most_own_keys)) {
      TokenTable part = tokens_at(partition.whole(), own, rows);
      keys.push_back({std::move(rows), rows_of(std::move(part), {})});
    }
    return keys;
  };
  const auto [earlier, later] = halves(own);
  tables.earlier = keys_of(earlier), tables.later = keys_of(later);
  return tables;
}

}  // namespace lexring
