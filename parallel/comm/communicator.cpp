#include "parallel/comm/communicator.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {
namespace {

std::size_t own_bytes(const std::vector<std::int64_t>& borders, int rank, Dtype dtype) {
  const auto r = static_cast<std::size_t>(rank);
  return static_cast<std::size_t>(borders[r + 1] - borders[r]) * size_of(dtype);
}

}  // namespace

std::vector<std::int64_t> even_borders(std::int64_t count, int parts) {
  std::vector<std::int64_t> borders;
  for (std::int64_t r = 0; r <= parts; ++r) borders.push_back(count * r / parts);
  return borders;
}

void copy_to_oneself(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming, int rank) {
  auto to = incoming.begin();
  for (const Outgoing& part : outgoing) {
    if (part.to != rank) continue;
    to = std::find_if(to, incoming.end(), [&](const Incoming& i) { return i.from == rank; });
    require(to != incoming.end() && to->bytes.size() == part.bytes.size(),
            "an exchange sends {} bytes to its own rank {}, which expects {}", part.bytes.size(), rank,
            to == incoming.end() ? 0 : to->bytes.size());
    std::copy(part.bytes.begin(), part.bytes.end(), to->bytes.begin());
    ++to;
  }
  to = std::find_if(to, incoming.end(), [&](const Incoming& i) { return i.from == rank; });
  require(to == incoming.end(), "an exchange expects bytes from its own rank {} that it does not send", rank);
}

Pending& Pending::operator=(Pending&& other) noexcept {
  std::swap(work_, other.work_);  // what was here is waited for with `other`
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
  if (work) work->wait();
}

void Communicator::all_reduce(std::span<float> values, Reduce op) {
  note("all_reduce", values.size_bytes());
  do_all_reduce(values, op);
}

void Communicator::all_reduce(std::span<double> values, Reduce op) {
  note("all_reduce", values.size_bytes());
  do_all_reduce(values, op);
}

void Communicator::all_reduce(std::span<std::int64_t> values, Reduce op) {
  note("all_reduce", values.size_bytes());
  do_all_reduce(values, op);
}

void Communicator::broadcast(std::span<std::byte> values, int root) {
  require(root >= 0 && root < size_, "broadcast from rank {} in group {}, which has ranks 0 to {}", root, name_, size_ - 1);
  note("broadcast", values.size());
  do_broadcast(values, root);
}

std::vector<std::vector<std::byte>> Communicator::all_gather(std::span<const std::byte> mine) {
  note("all_gather", mine.size());
  return do_all_gather(mine);
}

void Communicator::barrier() {
  note("barrier", 0);
  do_barrier();
}

std::unique_ptr<Communicator> Communicator::split(const std::string& name, int color) {
  require(color >= 0, "group {} cannot be split by color {}: colors are 0 or more", name_, color);
  note("split", 0);
  return do_split(name, color);
}

Pending Communicator::start_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) {
  check_slices(values, dtype, borders);
  note("reduce_scatter", values.size() - own_bytes(borders, rank_, dtype));
  return do_reduce_scatter(values, dtype, std::move(borders));
}

Pending Communicator::start_all_gather(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) {
  check_slices(values, dtype, borders);
  note("all_gather", own_bytes(borders, rank_, dtype) * static_cast<std::size_t>(size_ - 1));
  return do_gather_slices(values, dtype, std::move(borders));
}

Pending Communicator::start_all_reduce(std::span<std::byte> values, Dtype dtype) {
  const auto borders = even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size_);
  check_slices(values, dtype, borders);
  const std::size_t own = own_bytes(borders, rank_, dtype);
  note("all_reduce", values.size() - own + own * static_cast<std::size_t>(size_ - 1));
  return do_start_all_reduce(values, dtype);
}

Pending Communicator::start_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) {
  std::size_t bytes = 0;
  for (const Outgoing& part : outgoing) {
    require(part.to >= 0 && part.to < size_, "an exchange sends to rank {} of group {}, which has ranks 0 to {}", part.to, name_,
            size_ - 1);
    if (part.to != rank_) bytes += part.bytes.size();
  }
  for (const Incoming& part : incoming) {
    require(part.from >= 0 && part.from < size_, "an exchange receives from rank {} of group {}, which has ranks 0 to {}", part.from, name_,
            size_ - 1);
  }
  note("exchange", bytes);
  return do_exchange(std::move(outgoing), std::move(incoming));
}

Pending Communicator::start_ring_shift(std::span<const std::byte> outgoing, std::span<std::byte> incoming) {
  return start_exchange({{(rank_ + 1) % size_, outgoing}}, {{(rank_ + size_ - 1) % size_, incoming}});
}

void Communicator::check_slices(std::span<const std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders) const {
  const bool fits = borders.size() == static_cast<std::size_t>(size_) + 1 && borders.front() == 0 &&
                    std::is_sorted(borders.begin(), borders.end()) &&
                    static_cast<std::size_t>(borders.back()) * size_of(dtype) == values.size();
  require(fits, "{} borders for {} bytes of {} do not cut them into a slice for each of the {} ranks of group {}", borders.size(),
          values.size(), name_of(dtype), size_, name_);
}

void Communicator::note(const char* operation, std::size_t bytes) {
  ++sequence_;
  auto record = std::find_if(records_.begin(), records_.end(), [&](const CommRecord& r) { return r.operation == operation; });
  if (record == records_.end()) record = records_.insert(records_.end(), {operation, 0, 0});
  ++record->calls;
  record->bytes += bytes;
}

}  // namespace lexring
