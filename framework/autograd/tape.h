/// Reverse-mode differentiation over coarse operations. Recording order is topological order.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring {

/// The gradient that reaches one value in backward. Copies share it. Recorded steps hold slots, not values, so a value
/// lives only as long as a step that reads it.
class GradientSlot {
 public:
  /// Undefined until something flowed back. Shape and dtype of the value. A kernel may add to what is there.
  const Tensor& get() const { return *gradient_; }
  /// Adds `gradient` to what reached the value so far; the first one is taken over, not copied: the caller gives it
  /// away and must not keep another tensor that shares its storage and is written or read later.
  void accumulate(Backend& backend, Tensor gradient) const;
  /// Takes the gradient out, so that its memory goes as soon as the caller is done.
  Tensor take() const { return std::exchange(*gradient_, Tensor()); }

 private:
  std::shared_ptr<Tensor> gradient_ = std::make_shared<Tensor>();
};

/// Gives a value of the forward pass back in backward: as it is, or made again.
using Kept = std::function<Tensor()>;

/// A value on a tape, with the slot of its gradient. Copies share both. A default-constructed Var is absent.
class Var {
 public:
  Var() = default;
  explicit Var(Tensor value) : value_(std::move(value)) {}
  /// A value that is cheap to make again from what backward holds anyway (an activation, a norm).
  Var(Tensor value, Kept again) : value_(std::move(value)), again_(std::move(again)) {}

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const GradientSlot& slot() const { return slot_; }
  const Tensor& gradient() const { return slot_.get(); }
  void accumulate(Backend& backend, Tensor gradient) const { slot_.accumulate(backend, std::move(gradient)); }
  Tensor take_gradient() const { return slot_.take(); }

 private:
  friend class Tape;
  Tensor value_;
  GradientSlot slot_;
  Kept again_;
};

enum class Recording { on, off };

/// Records how to go back. With Recording::off operations compute and remember nothing (evaluation).
class Tape {
 public:
  Tape(Backend& backend, Recording recording) : backend_(&backend), recording_(recording) {}

  Backend& backend() const { return *backend_; }
  Runtime& runtime() const { return backend_->runtime(); }
  bool recording() const { return recording_ == Recording::on; }

  /// Remembers one operation's backward: it takes the gradients of its outputs and accumulates into the slots of its
  /// inputs. It may find an output without gradient (nothing depended on it) and then has nothing to do. What it
  /// captures is freed as soon as it has run. No-op when not recording.
  void record(std::function<void()> backward);
  /// For a step to capture what it reads of the forward pass. Every activation and statistic that backward needs passes
  /// here (not indices and tables of a bias), so how it is kept is decided in one place: what is cheap to make again is
  /// made again, and its memory goes; the rest stays. Empty when not recording.
  Kept keep(const Var& value) const;
  Kept keep(Tensor value) const;
  /// What `compute` returns, for results that are worth their memory in every case. In a stretch that is recomputed the
  /// first pass keeps them, and the replay takes them: `compute` runs once.
  std::vector<Tensor> once(const std::function<std::vector<Tensor>()>& compute);
  /// Remembers a place, by a number of the caller's: backward tells when it has gone back over everything recorded
  /// after it.
  void mark(std::size_t place);
  /// Walks back over everything recorded and forgets it. Seed gradients first with Var::accumulate; any number of
  /// outputs, so a tape may start from gradients that were received. `reached` is called with the number of each mark;
  /// may be empty.
  void backward(const std::function<void(std::size_t)>& reached = {});

 private:
  struct Step {
    std::function<void()> backward;
    const char* purpose;  ///< of the operation, for what its backward allocates
  };

  friend class Stretch;

  Backend* backend_;
  Recording recording_;
  std::deque<std::vector<Tensor>>* once_ = nullptr;  // of a stretch: its first pass adds, its replay takes
  std::vector<Step> steps_;
  std::function<void(std::size_t)> reached_;  // while backward runs
};

/// What a stretch of operations hands on.
struct StretchOutputs {
  std::vector<Var> kept;  ///< as other values are; may be absent
  Var operand;  ///< of the product behind the stretch: backward gets it from the replay, so one step may keep it
};
using StretchBody = std::function<StretchOutputs(Tape&, std::vector<Var> inputs)>;

/// Runs `body` on `inputs`, which may be absent, and remembers only these, the outputs in `kept`, and what Tape::once
/// keeps. Backward replays it, at the latest when it comes to the stretch: activations inside live only meanwhile. A
/// last product whose value the replay would compute for nobody stands behind the stretch, on `tape`. `body` must be a
/// pure function of its inputs and of parameters (the generator is counter-based, so a replay draws the same numbers).
StretchOutputs recompute(Tape& tape, std::vector<Var> inputs, const StretchBody& body);

}  // namespace lexring
