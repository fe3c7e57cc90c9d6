#include "parallel/sequence/passes.h"
#include "parallel/sequence/rows.h"

namespace lexring {
namespace {

class BackwardPass {
 public:
  BackwardPass(Backend& backend, Communicator& ring, const SequenceTables& tables, const BiasTerms& bias,
               const Tensor& sums, const Tensor& qkv, const AttendedRows& attended, const Tensor& doutput,
               const Tensor& delta)
      : backend_(backend),
        ring_(ring),
        tables_(tables),
        bias_(bias),
        sums_(backend, tables, ring.rank(), sums),
        dsums_(gradient_of_sums(backend, sums)),
        own_dsums_(gradient_of_sums(backend, sums_.own())),
        qkv_(qkv),
        attended_(attended),
        doutput_(doutput),
        delta_(delta),
        travels_(tables.schedule.steps() > 0),
        calls_((travels_ ? tables.earlier.size() + tables.later.size() : 1) + used_stops(tables.schedule, ring.rank())),
        stages_(calls_),
        own_(gradients_of(qkv.rows())),
        bias_gradients_(backend, bias) {
    for (std::size_t i = 0; calls_ > 1 && i < tables.parts.size(); ++i) dq_states_.push_back(queries_gradient());
    if (calls_ == 1) dq_states_.resize(tables.parts.size());
  }

  AttentionGradients run() {
    const Columns own = key_value_columns(tables_.form, qkv_);
    if (travels_) {
      travel(own);
    } else {
      differentiate(own_side(tables_, qkv_), own_, sums_.own(), own_dsums_);
    }
    write_own(own);
    if (dsums_.defined()) add_chunks(backend_, own_dsums_, tables_.partition->place_chunks(ring_.rank()), dsums_);
    return {dqkv_, std::move(bias_gradients_), dsums_};
  }

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
          const Tensor sums = sums_.of(remote), dsums = gradient_of_sums(backend_, sums);
          differentiate(side_of(tables_, remote), remote.gradients, sums, dsums);
          if (dsums.defined()) add_chunks(backend_, dsums, chunks_of(tables_, remote), dsums_);
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
    return {backend_.runtime(), {rows, 2 * tables_.form.key_width()}, master_dtype(qkv_.dtype())};
  }

  /// f32 (f64), [N, H E].
  Tensor queries_gradient() const { return {backend_.runtime(), doutput_.shape(), master_dtype(qkv_.dtype())}; }

  /// `sums`: of the keys; `dsums` += their gradients.
  void differentiate(const KeySide& side, const Tensor& dkv, const Tensor& sums, const Tensor& dsums) {
    const CallStage stage = stages_.next();
    if (stage.last) dqkv_ = Tensor(backend_.runtime(), qkv_.shape(), qkv_.dtype());
    const Columns query = stage.last ? split_columns(tables_.form, dqkv_).query : Columns();
    if (tables_.parts.size() == 1) return differentiate(0, side, stage, query, dkv, sums, dsums);
    Tensor sum;  // over the parts, rounded once
    for (std::size_t i = 0; i < tables_.parts.size(); ++i) {
      const Tensor dq = stage.last ? queries_gradient() : Tensor();
      const Tensor part = i == 0 ? dkv : gradients_of(dkv.rows());
      differentiate(i, side, stage, stage.last ? Columns(dq, 0, dq.row_elements()) : Columns(), part, sums, dsums);
      if (i == 0) {
        sum = dq;
        continue;
      }
      backend_.add(part, dkv);
      if (stage.last) backend_.add(dq, sum);
    }
    if (stage.last) backend_.copy(rounded(sum), query);
  }

  /// By the part `i`.
  void differentiate(std::size_t i, const KeySide& side, CallStage stage, const Columns& dq, const Tensor& dkv,
                     const Tensor& sums, const Tensor& dsums) {
    const std::int64_t width = dkv.row_elements() / 2;
    const AttentionPart& part = tables_.parts[i];
    const ScoreBias added = bias_.value(part);
    const AttentionBackward call{.form = part.form,
                                 .bias = added,
                                 .queries = part.queries,
                                 .keys = side.rows,
                                 .q = split_columns(tables_.form, qkv_).query,
                                 .k = side.keys,
                                 .v = side.values,
                                 .output = attended_.output,
                                 .doutput = doutput_,
                                 .lse = attended_.lse,
                                 .delta = delta_,
                                 .query_stage = stage,
                                 .key_stage = {},
                                 .dq_state = dq_states_[i],
                                 .dk_state = {},
                                 .dv_state = {},
                                 .dq = dq,
                                 .dk = {dkv, 0, width},
                                 .dv = {dkv, width, width},
                                 .dby_distance = bias_gradients_.of(part),
                                 .row_terms = {sums_.own(), sums},
                                 .dquery_terms = own_dsums_,
                                 .dkey_terms = dsums};
    check(call);
    backend_.attention_backward(call);
  }

  /// Some of the own keys.
  void differentiate_own(const Columns& own, const KeyRows& part) {
    const MemoryPurpose purpose("attention: a part of the own keys");
    const Tensor gradients = gradients_of(count(part.rows));
    const Tensor sums = sums_.own().defined() ? pack_rows(backend_, sums_.own(), part.rows) : Tensor(),
                 dsums = gradient_of_sums(backend_, sums);
    differentiate(side_of(part.table, pack_rows(backend_, own, part.rows)), gradients, sums, dsums);
    add_rows(backend_, gradients, part.rows, own_);
    if (dsums.defined()) add_rows(backend_, dsums, part.rows, own_dsums_);
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

  void write_own(const Columns& own) { backend_.copy(rounded(own_), {dqkv_, own.first, own.width}); }

  /// In the working dtype.
  Tensor rounded(const Tensor& sum) const {
    if (sum.dtype() == qkv_.dtype()) return sum;
    const Tensor result(backend_.runtime(), sum.shape(), qkv_.dtype());
    backend_.cast(sum, result);
    return result;
  }

  Backend& backend_;
  Communicator& ring_;
  const SequenceTables& tables_;
  const BiasTerms& bias_;
  PlaceSums sums_;
  Tensor dsums_, own_dsums_;  ///< of all rows of the batch, of the place's
  const Tensor& qkv_;
  const AttendedRows& attended_;
  const Tensor &doutput_, &delta_;
  bool travels_;
  std::size_t calls_;
  Stages stages_;
  Tensor own_;                     ///< [N, 2 W]: gradients of own keys and values
  std::vector<Tensor> dq_states_;  ///< by part, [N, H E]
  Tensor dqkv_;                    ///< from the last call on
  BiasGradients bias_gradients_;
};

}  // namespace

AttentionGradients backward_pass(Backend& backend, Communicator& ring, const SequenceTables& tables,
                                 const BiasTerms& bias, const Tensor& sums, const Tensor& qkv,
                                 const AttendedRows& attended, const Tensor& doutput, const Tensor& delta) {
  return BackwardPass(backend, ring, tables, bias, sums, qkv, attended, doutput, delta).run();
}

}  // namespace lexring
