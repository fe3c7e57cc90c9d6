#include "parallel/comm/communicator.h"

#include <algorithm>
#include <optional>

#include "framework/base/error.h"

namespace lexring {

std::vector<std::int64_t> even_borders(std::int64_t count, int parts) {
  std::vector<std::int64_t> borders;
  for (std::int64_t r = 0; r <= parts; ++r) borders.push_back(count * r / parts);
  return borders;
}

void copy_to_oneself(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming, int rank,
                     Runtime* device) {
  auto to = incoming.begin();
  for (const Outgoing& part : outgoing) {
    if (part.to != rank) continue;
    to = std::find_if(to, incoming.end(), [&](const Incoming& i) { return i.from == rank; });
    require(to != incoming.end() && to->bytes.size() == part.bytes.size(),
            "an exchange sends {} bytes to its own rank {}, which expects {}", part.bytes.size(), rank,
            to == incoming.end() ? 0 : to->bytes.size());
    if (device == nullptr) {
      std::copy(part.bytes.begin(), part.bytes.end(), to->bytes.begin());
    } else {
      device->copy(to->bytes.data(), part.bytes.data(), part.bytes.size());
    }
    ++to;
  }
  to = std::find_if(to, incoming.end(), [&](const Incoming& i) { return i.from == rank; });
  require(to == incoming.end(), "an exchange expects bytes from its own rank {} that it does not send", rank);
}

Pending& Pending::operator=(Pending&& other) noexcept {
  std::swap(work_, other.work_);  // what was here is waited for with `other`
  std::swap(ledger_, other.ledger_);
  std::swap(call_, other.call_);
  return *this;
}

Pending::~Pending() {
  try {
    wait();
  } catch (...) {  // NOLINT(bugprone-empty-catch): whoever wanted the error waited
  }
}

void Pending::wait() {
  const std::unique_ptr<Work> work = std::move(work_);
  if (!work) return;
  std::optional<HeldUp> held;
  if (ledger_) held.emplace(*ledger_, call_);
  work->wait();
}

void Communicator::all_reduce(std::span<float> values, Reduce op) {
  const HeldUp held = begin("all_reduce");
  do_all_reduce(values, op);
}

void Communicator::all_reduce(std::span<double> values, Reduce op) {
  const HeldUp held = begin("all_reduce");
  do_all_reduce(values, op);
}

void Communicator::all_reduce(std::span<std::int64_t> values, Reduce op) {
  const HeldUp held = begin("all_reduce");
  do_all_reduce(values, op);
}

void Communicator::broadcast(std::span<std::byte> values, int root) {
  require(root >= 0 && root < size_, "broadcast from rank {} in group {}, which has ranks 0 to {}", root, name_,
          size_ - 1);
  const HeldUp held = begin("broadcast");
  do_broadcast(values, root);
}

std::vector<std::vector<std::byte>> Communicator::all_gather(std::span<const std::byte> mine) {
  const HeldUp held = begin("all_gather");
  return do_all_gather(mine);
}

void Communicator::barrier() {
  const HeldUp held = begin("barrier");
  do_barrier();
}

std::unique_ptr<Communicator> Communicator::split(const std::string& name, int color) {
  require(color >= 0, "group {} cannot be split by color {}: colors are 0 or more", name_, color);
  const HeldUp held = begin("split");
  return do_split(name, color);
}

std::unique_ptr<Communicator> Communicator::do_alone(const std::string& name) const {
  return make_self_communicator(name);
}

Pending Communicator::start_reduce_scatter(std::span<std::byte> values, Dtype dtype,
                                           std::vector<std::int64_t> borders) {
  check_slices(values, dtype, borders);
  const HeldUp held = begin("reduce_scatter");
  return charged(do_reduce_scatter(values, dtype, std::move(borders)));
}

Pending Communicator::start_all_gather(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) {
  check_slices(values, dtype, borders);
  const HeldUp held = begin("all_gather");
  return charged(do_gather_slices(values, dtype, std::move(borders)));
}

Pending Communicator::start_all_reduce(std::span<std::byte> values, Dtype dtype) {
  check_slices(values, dtype, even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size_));
  const HeldUp held = begin("all_reduce");
  return charged(do_start_all_reduce(values, dtype));
}

Pending Communicator::start_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) {
  for (const Outgoing& part : outgoing) {
    require(part.to >= 0 && part.to < size_, "an exchange sends to rank {} of group {}, which has ranks 0 to {}",
            part.to, name_, size_ - 1);
  }
  for (const Incoming& part : incoming) {
    require(part.from >= 0 && part.from < size_,
            "an exchange receives from rank {} of group {}, which has ranks 0 to {}", part.from, name_, size_ - 1);
  }
  const HeldUp held = begin("exchange");
  return charged(do_exchange(std::move(outgoing), std::move(incoming)));
}

void Communicator::check_slices(std::span<const std::byte> values, Dtype dtype,
                                const std::vector<std::int64_t>& borders) const {
  const bool fits = borders.size() == static_cast<std::size_t>(size_) + 1 && borders.front() == 0 &&
                    std::is_sorted(borders.begin(), borders.end()) &&
                    static_cast<std::size_t>(borders.back()) * size_of(dtype) == values.size();
  require(fits, "{} borders for {} bytes of {} do not cut them into a slice for each of the {} ranks of group {}",
          borders.size(), values.size(), name_of(dtype), size_, name_);
}

HeldUp Communicator::begin(const char* operation) {
  call_ = ledger_->begin(operation);
  return {*ledger_, call_};
}

Pending Communicator::charged(Pending pending) const {
  pending.ledger_ = ledger_;
  pending.call_ = call_;
  return pending;
}

}  // namespace lexring
