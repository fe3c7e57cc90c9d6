#include "parallel/tensor/replicated.h"

namespace lexring {
namespace {

/// Gradients one after another in one buffer, and the way back.
class Flat {
 public:
  explicit Flat(std::vector<Tensor> gradients) : gradients_(std::move(gradients)) {
    std::int64_t elements = 0;
    for (const Tensor& gradient : gradients_) elements += gradient.elements();
    buffer_ = Tensor(gradients_.front().runtime(), {elements}, gradients_.front().dtype());
  }
  const Tensor& gather() const {
    each([](const Tensor& gradient, const Tensor& place) {
      place.runtime().copy(place.raw(), gradient.raw(), gradient.bytes());
    });
    return buffer_;
  }
  void scatter() const {
    each([](const Tensor& gradient, const Tensor& place) {
      place.runtime().copy(gradient.raw(), place.raw(), gradient.bytes());
    });
  }

 private:
  template <class Visit>
  void each(const Visit& visit) const {
    std::int64_t at = 0;
    for (const Tensor& gradient : gradients_) {
      visit(gradient, buffer_.slice(at, gradient.elements()));
      at += gradient.elements();
    }
  }

  std::vector<Tensor> gradients_;
  Tensor buffer_;
};

}  // namespace

ReplicatedGradients::ReplicatedGradients(Communicator& group, const std::vector<Parameter>& parameters)
    : group_(&group) {
  for (const Parameter& parameter : parameters) {
    const int copies = parameter.copies;
    if (copies == 1 || copies == group.size() || holders_.contains(copies)) continue;
    holders_[copies] = group.split(fmt::format("{} copies", group.name()), group.rank() / copies);
  }
}

void ReplicatedGradients::sum(const std::vector<Parameter>& parameters) const {
  std::map<int, std::vector<Tensor>> by_copies;
  for (const Parameter& parameter : parameters) {
    if (parameter.copies > 1) by_copies[parameter.copies].push_back(parameter.gradient);
  }
  for (auto& [copies, gradients] : by_copies) {
    Communicator& holders = copies == group_->size() ? *group_ : *holders_.at(copies);
    const Flat flat(std::move(gradients));
    const Tensor& buffer = flat.gather();
    holders.start_all_reduce({buffer.raw(), buffer.bytes()}, buffer.dtype()).wait();
    flat.scatter();
  }
}

}  // namespace lexring
