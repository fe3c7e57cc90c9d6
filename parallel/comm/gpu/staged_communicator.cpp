#include "parallel/comm/gpu/staged_communicator.h"

#include <algorithm>

#include "parallel/comm/host/reduction.h"

namespace lexring {

DeviceStaging::Memory DeviceStaging::take(std::size_t size) {
  if (size == 0) return {};
  {
    const std::scoped_lock lock(mutex_);
    // The smallest that is large enough and no longer read from.
    std::sort(free_.begin(), free_.end(), [](const Free& a, const Free& b) { return a.memory.size < b.memory.size; });
    const auto fits = std::find_if(free_.begin(), free_.end(), [&](const Free& f) {
      return f.memory.size >= size && (!f.last || f.last->passed());
    });
    if (fits != free_.end()) {
      Memory memory = std::move(fits->memory);
      free_.erase(fits);
      return memory;
    }
    // Else the largest gives way to a larger one.
    const auto idle =
        std::find_if(free_.rbegin(), free_.rend(), [](const Free& f) { return !f.last || f.last->passed(); });
    if (idle != free_.rend()) free_.erase(std::next(idle).base());
  }
  return {copies->pinned(size), size};
}

void DeviceStaging::give_back(Memory memory, std::unique_ptr<SideCopies::Event> last) {
  const std::scoped_lock lock(mutex_);
  if (memory.size > 0) free_.push_back({std::move(memory), std::move(last)});
}

/// What one call keeps while it is under way.
class StagedCommunicator::Call {
 public:
  Call(std::shared_ptr<DeviceStaging> device, std::size_t bytes)
      : device_(std::move(device)), memory_(device_->take(bytes)) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() { device_->give_back(std::move(memory_), std::move(in_ ? in_ : out_)); }

  /// The next so many bytes of pinned memory.
  std::span<std::byte> next(std::size_t bytes) {
    const std::span<std::byte> part(memory_.bytes.get() + used_, bytes);
    used_ += bytes;
    return part;
  }
  void copy_out(std::span<const std::byte> device, std::span<std::byte> host) { add(outward_, host.data(), device); }
  void copy_in(std::span<const std::byte> host, std::span<std::byte> device) { add(inward_, device.data(), host); }

  void begin_out() { out_ = device_->copies->out(outward_); }
  bool out_passed() { return out_->passed(); }
  void begin_in() { in_ = device_->copies->in(inward_, *out_); }
  void let_runtime_wait() { device_->copies->let_runtime_wait(*in_); }

 private:
  static void add(std::vector<SideCopies::Part>& parts, std::byte* to, std::span<const std::byte> from) {
    if (!from.empty()) parts.push_back({to, from.data(), from.size()});
  }

  std::shared_ptr<DeviceStaging> device_;
  DeviceStaging::Memory memory_;
  std::size_t used_ = 0;
  std::vector<SideCopies::Part> outward_, inward_;
  std::unique_ptr<SideCopies::Event> out_, in_;
};

namespace {

/// Waits for what begins it, or begins what nobody waits for.
class StepStage final : public Stage {
 public:
  explicit StepStage(std::function<void(Transfer&)> step) : step_(std::move(step)) {}
  void begin(Transfer& transfer) override { step_(transfer); }

 private:
  std::function<void(Transfer&)> step_;
};

class StagedWork final : public Pending::Work {
 public:
  StagedWork(std::shared_ptr<Transfer> transfer, std::shared_ptr<Progress> progress, std::function<void()> then)
      : transfer_(std::move(transfer)), progress_(std::move(progress)), then_(std::move(then)) {}
  void wait() override {
    progress_->wait(*transfer_);
    then_();
  }
  bool done() const override { return transfer_->done(); }

 private:
  std::shared_ptr<Transfer> transfer_;
  std::shared_ptr<Progress> progress_;
  std::function<void()> then_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       std::shared_ptr<DeviceStaging> device) {
  if (auto* const mpi = dynamic_cast<MpiCommunicator*>(host.get()))
    return std::make_unique<StagedCommunicator>(*mpi, std::move(device));
  return make_self_communicator(host->name(), &device->runtime);
}

std::shared_ptr<StagedCommunicator::Call> StagedCommunicator::begin(std::size_t bytes) const {
  return std::make_shared<Call>(device_, bytes);
}

Pending StagedCommunicator::start(const std::shared_ptr<Call>& staged, std::unique_ptr<Stage> first,
                                  std::unique_ptr<Stage> second) const {
  staged->begin_out();
  std::vector<std::unique_ptr<Stage>> stages;
  stages.push_back(std::make_unique<StepStage>(
      [staged](Transfer& transfer) { transfer.until([staged] { return staged->out_passed(); }); }));
  stages.push_back(std::move(first));
  if (second) stages.push_back(std::move(second));
  stages.push_back(std::make_unique<StepStage>([staged](Transfer&) { staged->begin_in(); }));
  auto moving = transfer(std::move(stages));
  progress()->start(moving);
  return Pending(std::make_unique<StagedWork>(std::move(moving), progress(), [staged] { staged->let_runtime_wait(); }));
}

Pending StagedCommunicator::do_reduce_scatter(std::span<std::byte> values, Dtype dtype,
                                              std::vector<std::int64_t> borders) {
  const Fold sum = sum_of(dtype);
  const auto staged = begin(values.size());
  const auto host = staged->next(values.size());
  staged->copy_out(values, host);
  staged->copy_in(slice(host, size_of(dtype), borders, rank()), slice(values, size_of(dtype), borders, rank()));
  return start(staged, reduction_stage(host, size_of(dtype), borders, sum));
}

Pending StagedCommunicator::do_gather_slices(std::span<std::byte> values, Dtype dtype,
                                             std::vector<std::int64_t> borders) {
  const std::size_t element = size_of(dtype);
  const auto staged = begin(values.size());
  const auto host = staged->next(values.size());
  const auto own = slice(values, element, borders, rank());
  const auto first = static_cast<std::size_t>(own.data() - values.data()), end = first + own.size();
  staged->copy_out(own, host.subspan(first, own.size()));
  staged->copy_in(host.first(first), values.first(first));
  staged->copy_in(host.subspan(end), values.subspan(end));
  return start(staged, gather_stage(group(), host, element, borders));
}

Pending StagedCommunicator::do_start_all_reduce(std::span<std::byte> values, Dtype dtype) {
  const Fold sum = sum_of(dtype);
  const auto borders = even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size());
  const auto staged = begin(values.size());
  const auto host = staged->next(values.size());
  staged->copy_out(values, host);
  staged->copy_in(host, values);
  return start(staged, reduction_stage(host, size_of(dtype), borders, sum),
               gather_stage(group(), host, size_of(dtype), borders));
}

Pending StagedCommunicator::do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) {
  copy_to_oneself(outgoing, incoming, rank(), &device_->runtime);
  std::erase_if(outgoing, [&](const Outgoing& part) { return part.to == rank(); });
  std::erase_if(incoming, [&](const Incoming& part) { return part.from == rank(); });
  std::size_t bytes = 0;
  for (const Outgoing& part : outgoing) bytes += part.bytes.size();
  for (const Incoming& part : incoming) bytes += part.bytes.size();
  const auto staged = begin(bytes);
  for (Outgoing& part : outgoing) {
    const auto host = staged->next(part.bytes.size());
    staged->copy_out(part.bytes, host);
    part.bytes = host;
  }
  for (Incoming& part : incoming) {
    const auto host = staged->next(part.bytes.size());
    staged->copy_in(host, part.bytes);
    part.bytes = host;
  }
  return start(staged, std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming)));
}

std::unique_ptr<Communicator> StagedCommunicator::do_split(const std::string& name, int color) {
  return make_staged_communicator(MpiCommunicator::do_split(name, color), device_);
}

std::unique_ptr<Communicator> StagedCommunicator::do_alone(const std::string& name) const {
  return make_self_communicator(name, &device_->runtime);
}

}  // namespace lexring
