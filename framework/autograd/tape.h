/// Reverse-mode differentiation over coarse operations. Recording order is topological order.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring {

/// A value on a tape, with the gradient that reaches it in backward. Copies share both. A default-constructed Var is absent.
class Var {
 public:
  Var() = default;
  explicit Var(Tensor value) : node_(std::make_shared<Node>(Node{std::move(value), {}})) {}

  bool defined() const { return node_ != nullptr; }
  const Tensor& value() const { return node_->value; }
  /// Undefined until something flowed back. Dtype of the value.
  const Tensor& gradient() const { return node_->gradient; }
  /// Adds `gradient` to what reached this value so far; the first one is taken over, not copied: the caller gives it away.
  void accumulate(Backend& backend, Tensor gradient) const;
  /// Takes the gradient out, so that its memory goes as soon as the caller is done.
  Tensor take_gradient() const { return std::exchange(node_->gradient, Tensor()); }

 private:
  struct Node {
    Tensor value;
    Tensor gradient;
  };
  std::shared_ptr<Node> node_;
};

enum class Recording { on, off };

/// Records how to go back. With Recording::off operations compute and remember nothing (evaluation).
class Tape {
 public:
  Tape(Backend& backend, Recording recording) : backend_(&backend), recording_(recording) {}

  Backend& backend() const { return *backend_; }
  Runtime& runtime() const { return backend_->runtime(); }
  bool recording() const { return recording_ == Recording::on; }

  /// Remembers one operation's backward: it takes the gradients of its outputs (take_gradient) and accumulates into its inputs.
  /// What it captures is freed as soon as it has run. No-op when not recording.
  void record(std::function<void()> backward);
  /// Walks back over everything recorded and forgets it. Seed gradients first with Var::accumulate; any number of outputs, so a tape may
  /// start from gradients that were received.
  void backward();

 private:
  Backend* backend_;
  Recording recording_;
  std::vector<std::function<void()>> steps_;
};

/// Runs `body` on `inputs` without remembering anything, and replays it in backward: activations inside live only during its own backward.
/// `body` must be a pure function of its inputs and of parameters (the generator is counter-based, so a replay draws the same numbers).
std::vector<Var> recompute(Tape& tape, const std::vector<Var>& inputs,
                           const std::function<std::vector<Var>(Tape&, const std::vector<Var>&)>& body);

}  // namespace lexring
