#include <deque>

#include "parallel/data/gradient_reduction.h"

namespace lexring {
namespace {

class ScatteringReduction final : public GradientReduction {
 public:
  ScatteringReduction(Backend& backend, Communicator& replicas, const std::vector<Parameter>& parameters,
                      std::vector<Bucket> buckets, std::vector<OwnRows> own, AfterSending after)
      : backend_(&backend), replicas_(&replicas), buckets_(std::move(buckets)), own_(std::move(own)), after_(after) {
    for (const Parameter& parameter : parameters) gradients_.push_back(parameter.gradient);
  }

  void reached(std::size_t section) override {
    if (section == 0 && next_ == buckets_.size()) next_ = 0;  // the next micro-batch
    for (; next_ < buckets_.size(); ++next_) {
      pack(buckets_[next_], section);
      if (buckets_[next_].section > section) return;
      if (under_way_.size() == most_under_way) take_oldest();
      const Tensor& memory = open_.memory;
      Pending sum = replicas_->start_reduce_scatter({memory.raw(), memory.bytes()}, memory.dtype(), open_.borders);
      under_way_.push_back({std::exchange(open_, {}), next_, std::move(sum)});
    }
  }

  void finish() override {
    while (!under_way_.empty()) take_oldest();
    require(next_ == buckets_.size(), "gradients of {} of {} messages were not final when the step ended",
            buckets_.size() - next_, buckets_.size());
    next_ = 0;
  }

 private:
  struct UnderWay {
    Message message;
    std::size_t bucket;
    Pending sum;  // the last member: goes first, and waits for what is under way
  };

  Tensor gradient_of(const RowShare& share) const {
    return gradients_[share.parameter].slice(share.first, share.count);
  }

  /// Those rows of a bucket that this section made final.
  void pack(const Bucket& bucket, std::size_t section) {
    if (!open_.memory.defined()) {
      const auto bytes_of = [&](const RowShare& share) { return gradient_of(share).bytes(); };
      open_ = make_message(backend_->runtime(), bucket, replicas_->size(), gradients_.front().dtype(), bytes_of);
    }
    for (std::size_t i = 0; i < bucket.rows.size(); ++i) {
      if (bucket.rows[i].section != section) continue;
      const Tensor gradient = gradient_of(bucket.rows[i].share);
      backend_->runtime().copy(open_.rows[i].raw(), gradient.raw(), gradient.bytes());
      if (after_ == AfterSending::clear) backend_->fill(gradient, 0.0);
    }
  }

  void take_oldest() {
    UnderWay oldest = std::move(under_way_.front());
    under_way_.pop_front();
    oldest.sum.wait();
    const Bucket& bucket = buckets_[oldest.bucket];
    for (std::size_t i = 0; i < bucket.rows.size(); ++i) {
      if (bucket.rows[i].owner != replicas_->rank()) continue;
      const RowShare& share = bucket.rows[i].share;
      const OwnRows& own = own_[share.parameter];
      const Tensor sum = own.sum.slice(share.first - own.first, share.count);
      if (after_ == AfterSending::clear) {
        backend_->add(oldest.message.rows[i], sum);
      } else {
        backend_->runtime().copy(sum.raw(), oldest.message.rows[i].raw(), sum.bytes());
      }
    }
  }

  Backend* backend_;
  Communicator* replicas_;
  std::vector<Tensor> gradients_;  // by parameter
  std::vector<Bucket> buckets_;
  std::vector<OwnRows> own_;
  AfterSending after_;
  std::size_t next_ = 0;
  Message open_;  // of bucket next_, not all of it final yet
  std::deque<UnderWay> under_way_;
};

}  // namespace

std::unique_ptr<GradientReduction> make_scattering_reduction(Backend& backend, Communicator& replicas,
                                                             const std::vector<Parameter>& parameters,
                                                             std::vector<Bucket> buckets, std::vector<OwnRows> own,
                                                             AfterSending after) {
  return std::make_unique<ScatteringReduction>(backend, replicas, parameters, std::move(buckets), std::move(own),
                                               after);
}

}  // namespace lexring
