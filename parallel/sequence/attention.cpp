#include "parallel/sequence/attention.h"

#include "parallel/sequence/rows.h"
#include "parallel/sequence/travel.h"

namespace lexring {
namespace {

Dtype statistics_dtype(Dtype working) { return working == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

/// Key and value columns of a fused product, which lie side by side.
Columns keys_and_values(const AttentionSpec& spec, const Tensor& qkv) {
  const std::int64_t width = spec.kv_heads * spec.head_width;
  return {qkv, spec.heads * spec.head_width, 2 * width};
}

/// Keys that a block of attention meets: own rows, or rows that arrived.
struct KeySide {
  TokenTable tokens;
  RotaryTable rotary;
  Columns keys, values;
};

KeySide own_side(const SequenceTables& tables, const Tensor& qkv) {
  const QueryKeyValue parts = split_columns(tables.own.spec, qkv);
  return {tables.own.tokens, tables.own.rotary, parts.key, parts.value};
}

/// Rows of a place, with their keys and values [rows, 2 W].
KeySide side_of(const SequenceTables& tables, int place, const RowSet& rows, const Tensor& keys) {
  const std::int64_t width = keys.row_elements() / 2;
  KeySide side{tokens_at(tables.partition.whole(), tables.partition.place_chunks(place), rows),
               {},
               {keys, 0, width},
               {keys, width, width}};
  if (tables.rotary) side.rotary = tables.rotary(side.tokens);
  return side;
}

KeySide side_of(const SequenceTables& tables, const Block& block) {
  return side_of(tables, block.route->source, block.stop().rows, block.keys);
}

/// How many blocks that arrive the queries of a place meet.
std::size_t used_blocks(const Schedule& schedule, int place) {
  std::size_t blocks = 0;
  for (const Route& route : schedule.routes) {
    for (const Stop& stop : route.stops) blocks += stop.place == place && stop.used ? 1 : 0;
  }
  return blocks;
}

/// The stages of a place's blocks, one after the other.
class Stages {
 public:
  explicit Stages(std::size_t blocks) : left_(blocks) {}
  BlockStage next() {
    const BlockStage stage{first_, --left_ == 0};
    first_ = false;
    return stage;
  }

 private:
  std::size_t left_;
  bool first_ = true;
};

class ForwardPass {
 public:
  ForwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const Tensor& qkv)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        qkv_(qkv),
        blocks_(1 + used_blocks(tables.schedule, ring.rank())),
        stages_(blocks_) {
    Runtime& runtime = backend.runtime();
    const AttentionSpec& spec = tables.own.spec;
    const std::int64_t rows = qkv.dim(0), width = spec.heads * spec.head_width;
    const Dtype statistics = statistics_dtype(qkv.dtype());
    output = Tensor(runtime, {rows, width}, qkv.dtype());
    lse = Tensor(runtime, {rows, spec.heads}, statistics);
    if (blocks_ == 1) return;
    state_ = {Tensor(runtime, {rows, width}, statistics), Tensor(runtime, {rows, spec.heads}, statistics),
              Tensor(runtime, {rows, spec.heads}, statistics)};
  }

  void run() {
    const Schedule& schedule = tables_.schedule;
    const int steps = schedule.steps();
    const Columns own = keys_and_values(tables_.own.spec, qkv_);
    std::vector<std::vector<Block>> held(static_cast<std::size_t>(schedule.lanes));  // of the last step of each lane
    const auto lane = [&](int step) -> std::vector<Block>& {
      return held[static_cast<std::size_t>(step % schedule.lanes)];
    };
    KeyStep keys;
    if (steps > 0) keys = start_keys(backend_, ring_, schedule, 0, own, {});
    attend(own_side(tables_, qkv_));
    for (int step = 0; step < steps; ++step) {
      keys.messages.wait();
      lane(step) = std::move(keys.arriving);
      if (step + 1 < steps) keys = start_keys(backend_, ring_, schedule, step + 1, own, lane(step + 1));
      for (const Block& block : lane(step)) {
        if (block.stop().used) attend(side_of(tables_, block));
      }
    }
  }

  Tensor output, lse;

 private:
  void attend(const KeySide& side) {
    const AttentionForward call{.spec = tables_.own.spec,
                                .queries = tables_.own.tokens,
                                .keys = side.tokens,
                                .query_rotary = tables_.own.rotary,
                                .key_rotary = side.rotary,
                                .visible = tables_.own.visible,
                                .q = split_columns(tables_.own.spec, qkv_).query,
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
  const Tensor& qkv_;
  std::size_t blocks_;
  Stages stages_;
  AttentionState state_;
};

class BackwardPass {
 public:
  BackwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const Tensor& qkv,
               const Tensor& doutput, const Tensor& lse, const Tensor& delta)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        qkv_(qkv),
        doutput_(doutput),
        lse_(lse),
        delta_(delta),
        travels_(tables.schedule.steps() > 0),
        own_keys_(pieces_of(tables.partition.place_chunks(ring.rank()))),
        blocks_((travels_ ? own_keys_.earlier.size() + own_keys_.later.size() : 1) +
                used_blocks(tables.schedule, ring.rank())),
        stages_(blocks_),
        own_(gradients_of(qkv.rows())) {
    if (blocks_ > 1) dq_state_ = Tensor(backend.runtime(), doutput.shape(), statistics_dtype(qkv.dtype()));
  }

  Tensor run() {
    const Columns own = keys_and_values(tables_.own.spec, qkv_);
    if (travels_) {
      travel(own);
    } else {
      differentiate(own_side(tables_, qkv_), own_);
    }
    write_own(own);
    return dqkv_;
  }

 private:
  /// Own keys, a part at a time: what is computed of them apart shall not grow with the sequence.
  struct Pieces {
    std::vector<RowSet> earlier, later;
  };
  static Pieces pieces_of(const std::vector<Chunk>& chunks) {
    constexpr std::int64_t most = 8192;
    const auto [earlier, later] = halves(chunks);
    return {cut(earlier, most), cut(later, most)};
  }

  void travel(const Columns& own) {
    const Schedule& schedule = tables_.schedule;
    const int steps = schedule.steps();
    const auto lanes = static_cast<std::size_t>(schedule.lanes);
    std::vector<std::vector<Block>> held(lanes);  // of the last step of each lane
    std::vector<GradientStep> gradients(lanes);
    const auto lane = [&](int step) { return static_cast<std::size_t>(step) % lanes; };
    backend_.fill(own_, 0.0);
    KeyStep keys = start_keys(backend_, ring_, schedule, 0, own, {});
    for (const RowSet& rows : own_keys_.later)
      differentiate_own(own, rows);  // few queries see these; what most of them see is kept for the end
    for (int step = 0; step < steps; ++step) {
      keys.messages.wait();
      std::vector<Block>& here = held[lane(step)];
      here = std::move(keys.arriving);
      if (step + 1 < steps) keys = start_keys(backend_, ring_, schedule, step + 1, own, held[lane(step + 1)]);
      for (Block& block : here) {
        const MemoryPurpose purpose("ring: gradients of keys");
        block.gradients = gradients_of(block.keys.rows());
        if (block.stop().used) {
          differentiate(side_of(tables_, block), block.gradients);
        } else {
          backend_.fill(block.gradients, 0.0);
        }
      }
      collect(gradients[lane(step)], here);
      gradients[lane(step)] = start_gradients(backend_, ring_, schedule, step, here, own_);
    }
    held.clear();
    keys = {};
    for (const RowSet& rows : own_keys_.earlier) differentiate_own(own, rows);
    for (int last = steps - schedule.lanes; last < steps; ++last) collect(gradients[lane(last)], {});
  }

  /// [rows, 2 W]: of keys, of values.
  Tensor gradients_of(std::int64_t rows) const {
    return {backend_.runtime(),
            {rows, 2 * tables_.own.spec.kv_heads * tables_.own.spec.head_width},
            statistics_dtype(qkv_.dtype())};
  }

  void differentiate(const KeySide& side, const Tensor& dkv) {
    const std::int64_t width = dkv.row_elements() / 2;
    const BlockStage stage = stages_.next();
    if (stage.last) dqkv_ = Tensor(backend_.runtime(), qkv_.shape(), qkv_.dtype());
    const AttentionBackward call{.spec = tables_.own.spec,
                                 .queries = tables_.own.tokens,
                                 .keys = side.tokens,
                                 .query_rotary = tables_.own.rotary,
                                 .key_rotary = side.rotary,
                                 .visible = tables_.own.visible,
                                 .q = split_columns(tables_.own.spec, qkv_).query,
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
                                 .dq = stage.last ? split_columns(tables_.own.spec, dqkv_).query : Columns(),
                                 .dk = {dkv, 0, width},
                                 .dv = {dkv, width, width}};
    check(call);
    backend_.attention_backward(call);
  }

  /// Some of the own keys.
  void differentiate_own(const Columns& own, const RowSet& rows) {
    const MemoryPurpose purpose("attention: a part of the own keys");
    const Tensor gradients = gradients_of(count(rows));
    differentiate(side_of(tables_, ring_.rank(), rows, pack_rows(backend_, own, rows)), gradients);
    add_rows(backend_, gradients, rows, own_);
  }

  /// Adds what arrived to the blocks it was meant for, and to own rows.
  void collect(GradientStep& arrived, const std::vector<Block>& blocks) {
    arrived.messages.wait();
    auto block = blocks.begin();
    for (const auto& [route, gradients] : arrived.passed_on) {
      while (block->route != route) ++block;
      backend_.add(gradients, block->gradients);
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
  const Tensor &qkv_, &doutput_, &lse_, &delta_;
  bool travels_;
  Pieces own_keys_;
  std::size_t blocks_;
  Stages stages_;
  Tensor own_;       ///< [N, 2 W]: gradients of own keys and values
  Tensor dq_state_;  ///< [N, H E]
  Tensor dqkv_;      ///< from the last block on
};

}  // namespace

Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const Var& qkv) {
  require(ring.size() == tables->partition.ring(), "a partition over a ring of {} was given to group {} of {}",
          tables->partition.ring(), ring.name(), ring.size());
  const MemoryPurpose purpose("attention: output, state, gradients");
  ForwardPass forward(tape.backend(), ring, *tables, qkv.value());
  forward.run();
  Var output(forward.output);
  tape.record([&backend = tape.backend(), &ring, tables, input = qkv.value(), lse = forward.lse, o = output.value(),
               o_slot = output.slot(), qkv_slot = qkv.slot()]() mutable {
    Tensor doutput = o_slot.take();
    if (!doutput.defined()) {  // other places may need this one's keys: it takes part
      doutput = Tensor(backend.runtime(), o.shape(), o.dtype());
      backend.fill(doutput, 0.0);
    }
    const Tensor delta(backend.runtime(), lse.shape(), lse.dtype());
    backend.attention_delta(o, doutput, delta);
    o = Tensor();
    qkv_slot.accumulate(backend, BackwardPass(backend, ring, *tables, input, doutput, lse, delta).run());
  });
  return output;
}

}  // namespace lexring
