#include "models/sequence.h"

#include <fmt/format.h>

#include "models/batch.h"
#include "parallel/sequence/attention.h"
#include "parallel/sequence/head_exchange.h"
#include "parallel/sequence/rows.h"

namespace lexring {

namespace {

RotaryTable rotary_of(const AttentionModel& model, const TokenTable& tokens) {
  if (model.position.rotary() == nullptr) return {};
  return model.rotary_tables.make(model.backend.runtime(), *model.position.rotary(), tokens, model.master);
}

RotaryTable slice(const RotaryTable& table, std::int64_t first, std::int64_t count) {
  if (!table.cosine.defined()) return {};
  return {table.cosine.slice(first, count), table.sine.slice(first, count)};
}

/// Adjacent rows of `from` into rows of `to`, which lie at one distance wherever rows are dealt out: one copy for as
/// many as do.
void scatter_rows(Backend& backend, const Tensor& from, std::span<const std::int64_t> places, const Tensor& to) {
  const std::int64_t width = to.row_elements();
  for (std::size_t first = 0; first < places.size();) {
    const std::int64_t place = places[first], distance = first + 1 < places.size() ? places[first + 1] - place : 1;
    std::size_t last = first + 1;
    if (distance > 0) {
      while (last < places.size() && places[last] - places[last - 1] == distance &&
             places[last] + distance <= to.rows())
        ++last;
    }
    const auto count = static_cast<std::int64_t>(last - first), step = count > 1 ? distance : 1;
    backend.copy(from.slice(static_cast<std::int64_t>(first), count).reshape({count, width}),
                 {to.slice(place, count * step).reshape({count, step * width}), 0, width});
    first = last;
  }
}

/// [N, ...] in the order of the batch.
Tensor gather_rows(Backend& backend, Communicator& group, const RowsOfRanks& rows_of, const Tensor& rows) {
  const std::int64_t width = rows.row_elements();
  std::vector<std::int64_t> borders = {0};
  for (const auto& theirs : rows_of)
    borders.push_back(borders.back() + static_cast<std::int64_t>(theirs.size()) * width);
  Shape shape = rows.shape();
  shape[0] = width == 0 ? 0 : borders.back() / width;
  const Tensor by_rank(rows.runtime(), shape, rows.dtype()), gathered(rows.runtime(), shape, rows.dtype());
  const std::int64_t own = borders[static_cast<std::size_t>(group.rank())];
  rows.runtime().copy(by_rank.raw() + static_cast<std::size_t>(own) * size_of(rows.dtype()), rows.raw(), rows.bytes());
  group.start_all_gather({by_rank.raw(), by_rank.bytes()}, by_rank.dtype(), borders).wait();
  std::int64_t first = 0;
  for (const auto& theirs : rows_of) {
    const auto count = static_cast<std::int64_t>(theirs.size());
    scatter_rows(backend, by_rank.slice(first, count), theirs, gathered);
    first += count;
  }
  return gathered;
}

}  // namespace

PartitionKind default_partition(const Pattern& pattern) {
  constexpr std::int64_t far = std::int64_t{1} << 40;
  return pattern.first_visible(far) <= 0 ? PartitionKind::zigzag : PartitionKind::contiguous;
}

SequencePass::SequencePass(const AttentionModel& model, const ModelBatch& batch, KeyValueCache* cache)
    : batch_(&batch), backend_(&model.backend), group_(&model.context.axis(Axis::cp)) {
  require(cache == nullptr || batch.tokens.sequences.size() == 1,
          "a cache continues one sequence, but the batch has {}", batch.tokens.sequences.size());
  const std::vector<DocumentPlace> places =
      document_places(batch, model.pattern.sinks(), cache != nullptr ? &cache->tokens() : nullptr);
  Visibility visible = model.pattern.visibility(batch.tokens, places);
  if (cache == nullptr && group_->size() > 1) {
    sharded(model, visible);
    return;
  }
  AttentionTables tables{model.spec, batch.tokens, rotary_of(model, batch.tokens), std::move(visible)};
  if (cache == nullptr) {
    plain(std::move(tables));
    return;
  }
  if (!places.empty()) {
    cache->begin_chunk(batch.tokens, tables.rotary, model.pattern.keep(batch.tokens.position.front(), places.front()));
  }
  cached(model, std::move(tables), *cache);
}

Attend SequencePass::attend(std::int64_t layer, const AttentionProbe& probe) const {
  return [run = layer_, layer, probe](Tape& tape, const Var& qkv) { return run(tape, layer, probe, qkv); };
}

void SequencePass::plain(AttentionTables tables) {
  layer_ = [shared = std::make_shared<const AttentionTables>(std::move(tables))](
               Tape& tape, std::int64_t layer, const AttentionProbe& probe, const Var& qkv) {
    if (probe) {
      const QueryKeyValue parts = split_columns(shared->spec, qkv.value());
      probe(layer, shared->spec, shared->tokens, shared->rotary, parts.query, parts.key);
    }
    return attention(tape, shared, qkv);
  };
}

void SequencePass::cached(const AttentionModel& model, AttentionTables chunk, KeyValueCache& cache) {
  const std::int64_t rows = chunk.tokens.rows();
  const Partition partition(chunk.tokens, PartitionKind::contiguous, group_->size());
  if (group_->size() > 1) {
    RowsOfRanks rows_of;
    for (int r = 0; r < group_->size(); ++r) rows_of.push_back(row_indices(partition.place_chunks(r)));
    rows_of_ = std::make_shared<const RowsOfRanks>(std::move(rows_of));
    take(partition.place_chunks(group_->rank()));
    const auto borders = even_borders(rows, group_->size());
    const std::int64_t first = borders[static_cast<std::size_t>(group_->rank())];
    chunk.visible = take_rows(chunk.visible, (*rows_of_)[static_cast<std::size_t>(group_->rank())]);
    chunk.tokens = rows_.tokens;
    chunk.rotary = slice(chunk.rotary, first, chunk.tokens.rows());
    description_ = "a streamed chunk's rows are shared evenly, its keys gathered by every rank";
  }
  layer_ = [tables = std::make_shared<const AttentionTables>(std::move(chunk)), group = group_, rows, &cache,
            &backend = model.backend](Tape&, std::int64_t layer, const AttentionProbe& probe, const Var& qkv) {
    const QueryKeyValue own = split_columns(tables->spec, qkv.value());
    if (probe) {
      require_usage(group->size() == 1,
                    "a streamed chunk's queries are spread over mesh.cp = {} ranks; measure attention resolution "
                    "unstreamed, or with mesh.cp = 1",
                    group->size());
      probe(layer, tables->spec, tables->tokens, tables->rotary, own.query, own.key);
    }
    const std::int64_t width = own.key.width;
    Columns keys = own.key, values = own.value;
    if (group->size() > 1) {
      const auto borders = even_borders(rows, group->size());
      const Tensor all(backend.runtime(), {rows, 2 * width}, qkv.value().dtype());
      const std::int64_t first = borders[static_cast<std::size_t>(group->rank())];
      backend.copy({qkv.value(), own.key.first, 2 * width}, all.slice(first, qkv.value().rows()));
      auto elements = borders;
      for (std::int64_t& border : elements) border *= 2 * width;
      group->start_all_gather({all.raw(), all.bytes()}, all.dtype(), elements).wait();
      keys = {all, 0, width};
      values = {all, width, width};
    }
    cache.append(layer, backend, keys, values);
    return Var(attention_to_cache(backend, *tables, own.query,
                                  {cache.tokens(), cache.rotary(), cache.keys(layer), cache.values(layer)}));
  };
}

void SequencePass::sharded(const AttentionModel& model, const Visibility& visible) {
  const Communicator &ring = model.context.ring(), &ulysses = model.context.ulysses();
  const PartitionKind asked = model.how.partition;
  const PartitionKind kind = asked == PartitionKind::automatic ? default_partition(model.pattern) : asked;
  Partition partition(batch_->tokens, kind, ring.size(), ulysses.size());
  RowsOfRanks rows_of;
  for (int r = 0; r < partition.ranks(); ++r) rows_of.push_back(row_indices(partition.rank_chunks(r)));
  rows_of_ = std::make_shared<const RowsOfRanks>(std::move(rows_of));
  take(partition.rank_chunks(group_->rank()));

  const HeadExchange heads(model.context.ulysses(), model.spec, partition.ulysses_borders(ring.rank()));
  Schedule schedule = make_schedule(partition, visible, model.how.exchange);
  description_ = fmt::format("{} partition", name_of(partition.kind()));
  if (ulysses.size() > 1) description_ += fmt::format("; heads exchanged for rows between {} ranks", ulysses.size());
  if (ring.size() > 1) description_ += "; " + schedule.reason;
  const std::vector<Chunk>& place = partition.place_chunks(ring.rank());
  AttentionTables own{heads.spec(), tokens_of(batch_->tokens, place), {}, take_rows(visible, row_indices(place))};
  own.rotary = rotary_of(model, own.tokens);
  RotaryMaker arriving;
  if (const RotaryAngles* angles = model.position.rotary()) {
    arriving = [angles, &runtime = model.backend.runtime(), dtype = model.master](const TokenTable& tokens) {
      return make_rotary_table(runtime, *angles, tokens, dtype);
    };
  }
  const auto tables = std::make_shared<const SequenceTables>(
      SequenceTables{std::move(partition), std::move(schedule), std::move(own), std::move(arriving)});
  const auto show_all = [tables, spec = model.spec, rows_of = rows_of_, group = group_, &backend = model.backend](
                            std::int64_t layer, const AttentionProbe& probe, const Tensor& qkv) {
    const TokenTable& whole = tables->partition.whole();
    const QueryKeyValue all = split_columns(spec, gather_rows(backend, *group, *rows_of, qkv));
    probe(layer, spec, whole, tables->rotary ? tables->rotary(whole) : RotaryTable{}, all.query, all.key);
  };
  layer_ = [tables, heads, show_all, &group = model.context.ring(), split = ulysses.size() > 1](
               Tape& tape, std::int64_t layer, const AttentionProbe& probe, const Var& qkv) {
    if (probe) show_all(layer, probe, qkv.value());
    if (!split) return sequence_attention(tape, group, tables, qkv);
    return heads.to_rows(tape, sequence_attention(tape, group, tables, heads.to_heads(tape, qkv)));
  };
}

void SequencePass::take(const std::vector<Chunk>& chunks) {
  const auto& rows = (*rows_of_)[static_cast<std::size_t>(group_->rank())];
  rows_.tokens = tokens_of(batch_->tokens, chunks);
  rows_.ids = take_rows(batch_->ids, rows);
  rows_.targets = take_rows(batch_->targets, rows);
}

Tensor SequencePass::gather(const Tensor& rows) const {
  return rows_of_ == nullptr ? rows : gather_rows(*backend_, *group_, *rows_of_, rows);
}

}  // namespace lexring
