#include <deque>

#include "parallel/data/gradient_reduction.h"

namespace lexring {
namespace {

class AllReduction final : public GradientReduction {
 public:
  AllReduction(Backend& backend, Communicator& replicas, const Tensor& gradients, const std::vector<Stretch>& stretches)
      : backend_(&backend), replicas_(&replicas), gradients_(gradients), stretches_(stretches) {}

  void reached(std::size_t section) override {
    for (; next_ < stretches_.size() && stretches_[next_].section <= section; ++next_) {
      if (under_way_.size() == most_under_way) wait_for_oldest();
      const Tensor stretch = gradients_.slice(stretches_[next_].first, stretches_[next_].count);
      under_way_.push_back(replicas_->start_all_reduce({stretch.raw(), stretch.bytes()}, stretch.dtype()));
    }
  }

  void finish() override {
    while (!under_way_.empty()) wait_for_oldest();
    require(next_ == stretches_.size(), "gradients of {} of {} messages were not final when the step ended",
            stretches_.size() - next_, stretches_.size());
    next_ = 0;
  }

 private:
  void wait_for_oldest() {
    under_way_.front().wait();
    under_way_.pop_front();
  }

  Backend* backend_;
  Communicator* replicas_;
  Tensor gradients_;
  std::vector<Stretch> stretches_;
  std::size_t next_ = 0;
  std::deque<Pending> under_way_;
};

}  // namespace

std::unique_ptr<GradientReduction> make_all_reduction(Backend& backend, Communicator& replicas, const Tensor& gradients,
                                                      const std::vector<Stretch>& stretches) {
  return std::make_unique<AllReduction>(backend, replicas, gradients, stretches);
}

}  // namespace lexring
