#include "parallel/comm/records.h"

#include <algorithm>

namespace lexring {

CommCall CommLedger::begin(const char* operation) {
  const std::scoped_lock lock(mutex_);
  auto record =
      std::find_if(records_.begin(), records_.end(), [&](const CommRecord& r) { return r.operation == operation; });
  if (record == records_.end()) record = records_.insert(records_.end(), CommRecord{operation, 0, 0, 0});
  ++record->calls;
  return {operation, ++number_, static_cast<std::size_t>(record - records_.begin())};
}

void CommLedger::sent(const CommCall& call, std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  records_[call.record].bytes += bytes;
}

void CommLedger::held_up(const CommCall& call, double seconds) {
  const std::scoped_lock lock(mutex_);
  records_[call.record].exposed += seconds;
}

void CommLedger::transfer_began() {
  const std::scoped_lock lock(mutex_);
  if (under_way_++ == 0) busy_since_ = Clock::now();
}

void CommLedger::transfer_ended() {
  const std::scoped_lock lock(mutex_);
  if (--under_way_ == 0) busy_ += std::chrono::duration<double>(Clock::now() - busy_since_).count();
}

void CommLedger::was_busy(double seconds) {
  const std::scoped_lock lock(mutex_);
  busy_ += seconds;
}

std::vector<CommRecord> CommLedger::records() const {
  const std::scoped_lock lock(mutex_);
  std::vector<CommRecord> used;
  std::copy_if(records_.begin(), records_.end(), std::back_inserter(used),
               [](const CommRecord& r) { return r.calls > 0; });
  return used;
}

double CommLedger::busy() const {
  const std::scoped_lock lock(mutex_);
  return busy_ + (under_way_ > 0 ? std::chrono::duration<double>(Clock::now() - busy_since_).count() : 0.0);
}

void CommLedger::reset() {
  const std::scoped_lock lock(mutex_);
  for (CommRecord& record : records_)
    record = {record.operation, 0, 0, 0};  // they keep their places: calls under way know them
  busy_ = 0;
  busy_since_ = Clock::now();
}

}  // namespace lexring
