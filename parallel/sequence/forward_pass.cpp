#include "parallel/sequence/passes.h"
#include "parallel/sequence/rows.h"

namespace lexring {

KeySide own_side(const SequenceTables& tables, const Tensor& qkv) {
  const QueryKeyValue parts = split_columns(tables.form, qkv);
  return {tables.own, parts.key, parts.value};
}

KeySide side_of(SharedRows rows, const Tensor& keys) {
  const std::int64_t width = keys.row_elements() / 2;
  return {std::move(rows), {keys, 0, width}, {keys, width, width}};
}

KeySide side_of(const SequenceTables& tables, const RemoteKeys& remote) {
  const auto route = static_cast<std::size_t>(remote.route - tables.schedule.routes.data());
  return side_of(tables.arriving[route][remote.hop], remote.keys);
}

PlaceSums::PlaceSums(Backend& backend, const SequenceTables& tables, int place, const Tensor& sums)
    : backend_(backend), tables_(tables), all_(sums) {
  if (sums.defined()) own_ = take_chunks(backend, sums, tables.partition->place_chunks(place));
}

Tensor PlaceSums::of(const RemoteKeys& remote) const {
  return all_.defined() ? take_chunks(backend_, all_, chunks_of(tables_, remote)) : Tensor();
}

std::vector<Chunk> chunks_of(const SequenceTables& tables, const RemoteKeys& remote) {
  return chunks_at(tables.partition->place_chunks(remote.route->source), remote.stop().rows);
}

std::size_t used_stops(const Schedule& schedule, int place) {
  std::size_t used = 0;
  for (const Route& route : schedule.routes) {
    for (const Stop& stop : route.stops) used += stop.place == place && stop.used ? 1 : 0;
  }
  return used;
}

namespace {

class ForwardPass {
 public:
  ForwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const BiasTerms& bias,
              const Tensor& sums, const Tensor& qkv)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        bias_(bias),
        sums_(backend, tables, ring.rank(), sums),
        qkv_(qkv),
        calls_(tables.parts.size() * (1 + used_stops(tables.schedule, ring.rank()))),
        stages_(calls_) {
    Runtime& runtime = backend.runtime();
    const AttentionForm& form = tables.form;
    const std::int64_t rows = qkv.dim(0), width = form.query_width();
    const Dtype statistics = master_dtype(qkv.dtype());
    output_ = Tensor(runtime, {rows, width}, qkv.dtype());
    lse_ = Tensor(runtime, {rows, form.heads}, statistics);
    if (calls_ == 1) return;
    state_ = {Tensor(runtime, {rows, width}, statistics), Tensor(runtime, {rows, form.heads}, statistics),
              Tensor(runtime, {rows, form.heads}, statistics)};
  }

  AttendedRows run() {
    const Schedule& schedule = tables_.schedule;
    const int steps = schedule.steps();
    const Columns own = key_value_columns(tables_.form, qkv_);
    std::vector<std::vector<RemoteKeys>> held(
        static_cast<std::size_t>(schedule.lanes));  // of the last step of each lane
    const auto lane = [&](int step) -> std::vector<RemoteKeys>& {
      return held[static_cast<std::size_t>(step % schedule.lanes)];
    };
    KeyStep keys;
    if (steps > 0) keys = start_keys(backend_, ring_, schedule, 0, own, {});
    attend(own_side(tables_, qkv_), sums_.own());
    for (int step = 0; step < steps; ++step) {
      keys.messages.wait();
      lane(step) = std::move(keys.arriving);
      if (step + 1 < steps) keys = start_keys(backend_, ring_, schedule, step + 1, own, lane(step + 1));
      for (const RemoteKeys& remote : lane(step)) {
        if (remote.stop().used) attend(side_of(tables_, remote), sums_.of(remote));
      }
    }
    return {output_, lse_};
  }

 private:
  void attend(const KeySide& side, const Tensor& sums) {
    for (const AttentionPart& part : tables_.parts) {
      const ScoreBias added = bias_.value(part);
      const AttentionForward call{.form = part.form,
                                  .bias = added,
                                  .queries = part.queries,
                                  .keys = side.rows,
                                  .q = split_columns(tables_.form, qkv_).query,
                                  .k = side.keys,
                                  .v = side.values,
                                  .stage = stages_.next(),
                                  .state = state_,
                                  .output = output_,
                                  .lse = lse_,
                                  .row_terms = {sums_.own(), sums}};
      check(call);
      backend_.attention(call);
    }
  }

  Backend& backend_;
  Communicator& ring_;
  const SequenceTables& tables_;
  const BiasTerms& bias_;
  PlaceSums sums_;
  const Tensor& qkv_;
  std::size_t calls_;
  Stages stages_;
  AttentionState state_;
  Tensor output_, lse_;
};

}  // namespace

AttendedRows forward_pass(Backend& backend, Communicator& ring, const SequenceTables& tables, const BiasTerms& bias,
                          const Tensor& sums, const Tensor& qkv) {
  return ForwardPass(backend, ring, tables, bias, sums, qkv).run();
}

}  // namespace lexring
