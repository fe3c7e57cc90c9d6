#include "parallel/sequence/attention.h"

#include "parallel/sequence/rows.h"
#include "parallel/sequence/travel.h"

namespace lexring {
namespace {

/// Keys that an attention call meets: own rows, or rows that arrived.
struct KeySide {
  SharedRows rows;
  Columns keys, values;
};

KeySide own_side(const SequenceTables& tables, const Tensor& qkv) {
  const QueryKeyValue parts = split_columns(tables.form, qkv);
  return {tables.own, parts.key, parts.value};
}

/// Rows with their keys and values side by side, [rows, 2 W].
KeySide side_of(SharedRows rows, const Tensor& keys) {
  const std::int64_t width = keys.row_elements() / 2;
  return {std::move(rows), {keys, 0, width}, {keys, width, width}};
}

KeySide side_of(const SequenceTables& tables, const RemoteKeys& remote) {
  const auto route = static_cast<std::size_t>(remote.route - tables.schedule.routes.data());
  return side_of(tables.arriving[route][remote.hop], remote.keys);
}

/// How many of the remote keys that arrive the queries of a place meet: a call of attention for each.
std::size_t used_stops(const Schedule& schedule, int place) {
  std::size_t used = 0;
  for (const Route& route : schedule.routes) {
    for (const Stop& stop : route.stops) used += stop.place == place && stop.used ? 1 : 0;
  }
  return used;
}

/// The stages of a place's calls, one after the other.
class Stages {
 public:
  explicit Stages(std::size_t calls) : left_(calls) {}
  CallStage next() {
    const CallStage stage{first_, --left_ == 0};
    first_ = false;
    return stage;
  }

 private:
  std::size_t left_;
  bool first_ = true;
};

class ForwardPass {
 public:
  ForwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const ScoreBias& bias,
              const Tensor& qkv)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        bias_(bias),
        qkv_(qkv),
        calls_(1 + used_stops(tables.schedule, ring.rank())),
        stages_(calls_) {
    Runtime& runtime = backend.runtime();
    const AttentionForm& form = tables.form;
    const std::int64_t rows = qkv.dim(0), width = form.query_width();
    const Dtype statistics = statistics_dtype(qkv.dtype());
    output = Tensor(runtime, {rows, width}, qkv.dtype());
    lse = Tensor(runtime, {rows, form.heads}, statistics);
    if (calls_ == 1) return;
    state_ = {Tensor(runtime, {rows, width}, statistics), Tensor(runtime, {rows, form.heads}, statistics),
              Tensor(runtime, {rows, form.heads}, statistics)};
  }

  void run() {
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
    attend(own_side(tables_, qkv_));
    for (int step = 0; step < steps; ++step) {
      keys.messages.wait();
      lane(step) = std::move(keys.arriving);
      if (step + 1 < steps) keys = start_keys(backend_, ring_, schedule, step + 1, own, lane(step + 1));
      for (const RemoteKeys& remote : lane(step)) {
        if (remote.stop().used) attend(side_of(tables_, remote));
      }
    }
  }

  Tensor output, lse;

 private:
  void attend(const KeySide& side) {
    const AttentionForward call{.form = tables_.form,
                                .bias = bias_,
                                .queries = tables_.own,
                                .keys = side.rows,
                                .q = split_columns(tables_.form, qkv_).query,
                                .k = side.keys,
                                .v = side.values,
                                .stage = stages_.next(),
                                .state = state_,
                                .output = output,
                                .lse = lse};
    check(call);
    backend_.attention(call);
  }

  Backend& backend_;
  Communicator& ring_;
  const SequenceTables& tables_;
  const ScoreBias& bias_;
  const Tensor& qkv_;
  std::size_t calls_;
  Stages stages_;
  AttentionState state_;
};

class BackwardPass {
 public:
  BackwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const ScoreBias& bias,
               const Tensor& qkv, const Tensor& doutput, const Tensor& lse, const Tensor& delta)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        bias_(bias),
        qkv_(qkv),
        doutput_(doutput),
        lse_(lse),
        delta_(delta),
        travels_(tables.schedule.steps() > 0),
        calls_((travels_ ? tables.earlier.size() + tables.later.size() : 1) + used_stops(tables.schedule, ring.rank())),
        stages_(calls_),
        own_(gradients_of(qkv.rows())) {
    dby_distance = begin_bias_gradient(backend, bias);
    if (calls_ > 1) dq_state_ = Tensor(backend.runtime(), doutput.shape(), statistics_dtype(qkv.dtype()));
  }

  Tensor run() {
    const Columns own = key_value_columns(tables_.form, qkv_);
    if (travels_) {
      travel(own);
    } else {
      differentiate(own_side(tables_, qkv_), own_);
    }
    write_own(own);
    return dqkv_;
  }

  Tensor dby_distance;  ///< this place's part; undefined without a table

 private:
  void travel(const Columns& own) {
    const Schedule& schedule = tables_.schedule;
    const int steps = schedule.steps();
    const auto lanes = static_cast<std::size_t>(schedule.lanes);
    std::vector<std::vector<RemoteKeys>> held(lanes);  // of the last step of each lane
    std::vector<GradientStep> gradients(lanes);
    const auto lane = [&](int step) { return static_cast<std::size_t>(step) % lanes; };
    backend_.fill(own_, 0.0);
    KeyStep keys = start_keys(backend_, ring_, schedule, 0, own, {});
    for (const KeyRows& part : tables_.later)
      differentiate_own(own, part);  // few queries see these; what most of them see is kept for the end
    for (int step = 0; step < steps; ++step) {
      keys.messages.wait();
      std::vector<RemoteKeys>& here = held[lane(step)];
      here = std::move(keys.arriving);
      if (step + 1 < steps) keys = start_keys(backend_, ring_, schedule, step + 1, own, held[lane(step + 1)]);
      for (RemoteKeys& remote : here) {
        const MemoryPurpose purpose("ring: gradients of keys");
        remote.gradients = gradients_of(remote.keys.rows());
        if (remote.stop().used) {
          differentiate(side_of(tables_, remote), remote.gradients);
        } else {
          backend_.fill(remote.gradients, 0.0);
        }
      }
      collect(gradients[lane(step)], here);
      gradients[lane(step)] = start_gradients(backend_, ring_, schedule, step, here, own_);
    }
    held.clear();
    keys = {};
    for (const KeyRows& part : tables_.earlier) differentiate_own(own, part);
    for (int last = steps - schedule.lanes; last < steps; ++last) collect(gradients[lane(last)], {});
  }

  /// [rows, 2 W]: of keys, of values.
  Tensor gradients_of(std::int64_t rows) const {
    return {backend_.runtime(), {rows, 2 * tables_.form.key_width()}, statistics_dtype(qkv_.dtype())};
  }

  void differentiate(const KeySide& side, const Tensor& dkv) {
    const std::int64_t width = dkv.row_elements() / 2;
    const CallStage stage = stages_.next();
    if (stage.last) dqkv_ = Tensor(backend_.runtime(), qkv_.shape(), qkv_.dtype());
    const AttentionBackward call{.form = tables_.form,
                                 .bias = bias_,
                                 .queries = tables_.own,
                                 .keys = side.rows,
                                 .q = split_columns(tables_.form, qkv_).query,
                                 .k = side.keys,
                                 .v = side.values,
                                 .doutput = doutput_,
                                 .lse = lse_,
                                 .delta = delta_,
                                 .query_stage = stage,
                                 .key_stage = {},
                                 .dq_state = dq_state_,
                                 .dk_state = {},
                                 .dv_state = {},
                                 .dq = stage.last ? split_columns(tables_.form, dqkv_).query : Columns(),
                                 .dk = {dkv, 0, width},
                                 .dv = {dkv, width, width},
                                 .dby_distance = dby_distance};
    check(call);
    backend_.attention_backward(call);
  }

  /// Some of the own keys.
  void differentiate_own(const Columns& own, const KeyRows& part) {
    const MemoryPurpose purpose("attention: a part of the own keys");
    const Tensor gradients = gradients_of(count(part.rows));
    differentiate(side_of(part.table, pack_rows(backend_, own, part.rows)), gradients);
    add_rows(backend_, gradients, part.rows, own_);
  }

  /// Adds what arrived to the remote keys it was meant for, and to own rows.
  void collect(GradientStep& arrived, const std::vector<RemoteKeys>& keys) {
    arrived.messages.wait();
    auto remote = keys.begin();
    for (const auto& [route, gradients] : arrived.passed_on) {
      while (remote->route != route) ++remote;
      backend_.add(gradients, remote->gradients);
    }
    for (const auto& [rows, gradients] : arrived.home) add_rows(backend_, gradients, rows, own_);
  }

  void write_own(const Columns& own) {
    Tensor rounded = own_;
    if (own_.dtype() != qkv_.dtype()) {
      rounded = Tensor(backend_.runtime(), own_.shape(), qkv_.dtype());
      backend_.cast(own_, rounded);
    }
    backend_.copy(rounded, {dqkv_, own.first, own.width});
  }

  Backend& backend_;
  Communicator& ring_;
  const SequenceTables& tables_;
  const ScoreBias& bias_;
  const Tensor &qkv_, &doutput_, &lse_, &delta_;
  bool travels_;
  std::size_t calls_;
  Stages stages_;
  Tensor own_;       ///< [N, 2 W]: gradients of own keys and values
  Tensor dq_state_;  ///< [N, H E]
  Tensor dqkv_;      ///< from the last call on
};

}  // namespace

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
  ForwardPass forward(tape.backend(), ring, *tables, added, qkv.value());
  forward.run();
  Var output(forward.output);
  tape.record([&backend = tape.backend(), &ring, tables, added, input = qkv.value(), lse = forward.lse,
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
    BackwardPass backward(backend, ring, *tables, added, input, doutput, lse, delta);
    qkv_slot.accumulate(backend, backward.run());
    if (backward.dby_distance.defined()) bias_slot.accumulate(backend, backward.dby_distance);
  });
  return output;
}

}  // namespace lexring
