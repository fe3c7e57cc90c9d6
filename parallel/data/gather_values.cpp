#include "parallel/data/gather_values.h"

#include <deque>

namespace lexring {
namespace {

/// What travels is only moved, and rows of both precisions share a message: it is counted in the smallest unit.
constexpr Dtype moved = Dtype::bf16;

struct UnderWay {
  Message message;
  const Bucket* bucket;
  Pending all;  // the last member: goes first, and waits for what is under way
};

}  // namespace

void gather_values(Backend& backend, Communicator& replicas, const std::vector<Parameter>& parameters,
                   const std::vector<Bucket>& buckets) {
  Runtime& runtime = backend.runtime();
  const auto read = [&](const RowShare& share) {
    const Parameter& parameter = parameters[share.parameter];
    const bool copy = parameter.compute.defined() && !parameter.looked_up;
    return (copy ? parameter.compute : parameter.value).slice(share.first, share.count);
  };
  const auto refresh = [&](const RowShare& share, const Tensor& value) {
    const Tensor& copy = parameters[share.parameter].compute;
    if (copy.defined() && copy.dtype() != value.dtype()) backend.cast(value, copy.slice(share.first, share.count));
  };
  std::deque<UnderWay> under_way;
  const auto take_oldest = [&] {
    under_way.front().all.wait();
    const auto& [message, bucket, all] = under_way.front();
    for (std::size_t i = 0; i < bucket->rows.size(); ++i) {
      if (bucket->rows[i].owner == replicas.rank()) continue;
      const Tensor to = read(bucket->rows[i].share);
      runtime.copy(to.raw(), message.rows[i].raw(), to.bytes());
      refresh(bucket->rows[i].share, to);
    }
    under_way.pop_front();
  };
  for (const Bucket& bucket : buckets) {
    Message message = make_message(runtime, bucket, replicas.size(), moved,
                                   [&](const RowShare& share) { return read(share).bytes(); });
    for (std::size_t i = 0; i < bucket.rows.size(); ++i) {
      if (bucket.rows[i].owner != replicas.rank()) continue;
      const Tensor from = read(bucket.rows[i].share);
      runtime.copy(message.rows[i].raw(), from.raw(), from.bytes());
    }
    if (under_way.size() == most_under_way) take_oldest();
    Pending all = replicas.start_all_gather({message.memory.raw(), message.memory.bytes()}, moved, message.borders);
    under_way.push_back({std::move(message), &bucket, std::move(all)});
  }
  while (!under_way.empty()) take_oldest();
}

}  // namespace lexring
