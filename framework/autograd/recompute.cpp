#include "framework/autograd/tape.h"

namespace lexring {

/// A stretch of operations, from its first pass to its way back.
class Stretch {
 public:
  Stretch(Tape& tape, const std::vector<Var>& inputs, StretchBody body)
      : backend_(tape.backend()), body_(std::move(body)), replay_(backend_, Recording::on) {
    for (const Var& input : inputs) {
      inputs_.push_back(tape.keep(input));
      input_slots_.push_back(input.slot());
    }
  }

  StretchOutputs first_pass(std::vector<Var> inputs) {
    Tape forgetful(backend_, Recording::off);
    forgetful.once_ = &once_;
    return body_(forgetful, std::move(inputs));
  }

  /// Away from here, so that its memory goes with the step that asks.
  Tensor take_operand() {
    replay();
    require(operand_.defined(), "more than one step keeps the operand behind a recomputed stretch");
    return std::exchange(operand_, Tensor());
  }

  /// `outputs`: the slots of what the first pass handed on.
  void backward(const std::vector<GradientSlot>& outputs) {
    replay();
    operand_ = Tensor();
    move_gradients(outputs, replayed_outputs_);
    replay_.backward();
    move_gradients(replayed_inputs_, input_slots_);
  }

  static std::vector<GradientSlot> slots_of(const StretchOutputs& outputs) {
    std::vector<GradientSlot> slots = {outputs.operand.slot()};
    for (const Var& output : outputs.kept) slots.push_back(output.slot());
    return slots;
  }

 private:
  void replay() {
    if (std::exchange(is_replayed_, true)) return;
    replay_.once_ = &once_;
    std::vector<Var> inputs;
    for (const Kept& input : inputs_) inputs.push_back(Var(input(), input));
    for (const Var& input : inputs) replayed_inputs_.push_back(input.slot());
    const StretchOutputs outputs = body_(replay_, std::move(inputs));
    replayed_outputs_ = slots_of(outputs);
    operand_ = outputs.operand.value();
  }

  void move_gradients(const std::vector<GradientSlot>& from, const std::vector<GradientSlot>& to) const {
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (Tensor gradient = from[i].take(); gradient.defined()) to[i].accumulate(backend_, std::move(gradient));
    }
  }

  Backend& backend_;
  StretchBody body_;
  std::vector<Kept> inputs_;
  std::vector<GradientSlot> input_slots_;
  std::deque<std::vector<Tensor>> once_;
  bool is_replayed_ = false;
  Tape replay_;
  std::vector<GradientSlot> replayed_inputs_, replayed_outputs_;
  Tensor operand_;  // of the replay, until somebody takes it
};

StretchOutputs recompute(Tape& tape, std::vector<Var> inputs, const StretchBody& body) {
  if (!tape.recording()) return body(tape, std::move(inputs));
  const auto stretch = std::make_shared<Stretch>(tape, inputs, body);
  const StretchOutputs inside = stretch->first_pass(std::move(inputs));
  // Vars made from values alone have slots of their own, so that what flows inside stays there until it is done.
  StretchOutputs outputs;
  for (const Var& output : inside.kept) outputs.kept.push_back(Var(output.value()));
  outputs.operand = Var(inside.operand.value(), [stretch] { return stretch->take_operand(); });
  tape.record([stretch, slots = Stretch::slots_of(outputs)] { stretch->backward(slots); });
  return outputs;
}

}  // namespace lexring
