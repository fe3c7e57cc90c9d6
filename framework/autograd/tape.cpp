#include "framework/autograd/tape.h"

namespace lexring {

void GradientSlot::accumulate(Backend& backend, Tensor gradient) const {
  if (!gradient_->defined()) {
    *gradient_ = std::move(gradient);
    return;
  }
  require(gradient.shape() == gradient_->shape(), "gradients of shapes {} and {} reached one value",
          to_string(gradient.shape()), to_string(gradient_->shape()));
  backend.add(gradient, *gradient_);
}

void Tape::record(std::function<void()> backward) {
  if (recording()) steps_.push_back({std::move(backward), MemoryPurpose::current()});
}

Kept Tape::keep(const Var& value) const {
  if (!recording()) return {};
  return value.again_ ? value.again_ : keep(value.value());
}

Kept Tape::keep(Tensor value) const {
  if (!recording()) return {};
  return [value = std::move(value)] { return value; };
}

std::vector<Tensor> Tape::once(const std::function<std::vector<Tensor>()>& compute) {
  if (once_ == nullptr) return compute();
  if (!recording()) return once_->emplace_back(compute());
  require(!once_->empty(), "the replay of a recomputed stretch computes other things than its first pass");
  std::vector<Tensor> results = std::move(once_->front());
  once_->pop_front();
  return results;
}

void Tape::mark(std::size_t place) {
  record([this, place] {
    if (reached_) reached_(place);
  });
}

void Tape::backward(const std::function<void(std::size_t)>& reached) {
  reached_ = reached;
  while (!steps_.empty()) {
    const Step step = std::move(steps_.back());
    steps_.pop_back();
    const MemoryPurpose purpose(step.purpose);
    step.backward();
  }
  reached_ = {};
}

}  // namespace lexring
