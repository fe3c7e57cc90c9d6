#include "parallel/comm/communicator.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

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

void Communicator::note(const char* operation, std::size_t bytes) {
  ++sequence_;
  auto record = std::find_if(records_.begin(), records_.end(), [&](const CommRecord& r) { return r.operation == operation; });
  if (record == records_.end()) record = records_.insert(records_.end(), {operation, 0, 0});
  ++record->calls;
  record->bytes += bytes;
}

}  // namespace lexring
