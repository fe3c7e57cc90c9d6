#include "framework/autograd/tape.h"

namespace lexring {

std::vector<Var> recompute(Tape& tape, const std::vector<Var>& inputs,
                           const std::function<std::vector<Var>(Tape&, const std::vector<Var>&)>& body) {
  if (!tape.recording()) return body(tape, inputs);
  // A Var made from the value alone has a slot of its own, so that what flows inside the replay stays there until it is
  // done.
  const auto detached = [](const std::vector<Var>& vars) {
    std::vector<Var> copies;
    for (const Var& var : vars) copies.push_back(Var(var.value()));
    return copies;
  };
  Tape forgetful(tape.backend(), Recording::off);
  std::vector<Var> outputs = detached(body(forgetful, detached(inputs)));
  std::vector<GradientSlot> slots, reached;
  std::vector<Kept> kept;
  for (const Var& output : outputs) slots.push_back(output.slot());
  for (const Var& input : inputs) {
    reached.push_back(input.slot());
    kept.push_back(tape.keep(input));
  }
  tape.record([&backend = tape.backend(), kept, reached, slots, body] {
    Tape replay(backend, Recording::on);
    std::vector<Var> fresh;
    for (const Kept& input : kept) fresh.push_back(Var(input()));
    {
      const std::vector<Var> again = body(replay, fresh);
      for (std::size_t i = 0; i < slots.size(); ++i) {
        if (Tensor gradient = slots[i].take(); gradient.defined()) again[i].accumulate(backend, std::move(gradient));
      }
    }
    replay.backward();
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      if (Tensor gradient = fresh[i].take_gradient(); gradient.defined())
        reached[i].accumulate(backend, std::move(gradient));
    }
  });
  return outputs;
}

}  // namespace lexring
