#include "framework/device/cuda/staging_ring.h"

#include <algorithm>
#include <cstring>

#include "framework/device/cuda/call.h"

namespace lexring {
namespace {

constexpr std::size_t alignment = 256;

}  // namespace

StagingRing::~StagingRing() {
  for (CUevent_st* event : copied_) {
    if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
  }
  if (memory_ != nullptr) static_cast<void>(cudaFreeHost(memory_));
}

void StagingRing::reserve() {
  for (CUevent_st*& event : copied_) {
    if (event == nullptr) LEXRING_CUDA_CALL(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  void* memory = nullptr;
  LEXRING_CUDA_CALL(cudaMallocHost(&memory, slots * slot_bytes));
  memory_ = static_cast<std::byte*>(memory);
}

void StagingRing::enter_next_slot() {
  slot_ = (slot_ + 1) % slots;
  used_ = 0;
  LEXRING_CUDA_CALL(cudaEventSynchronize(copied_[slot_]));  // one that was never recorded is over
}

void StagingRing::copy(std::byte* to_device, const std::byte* from, std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  if (memory_ == nullptr) reserve();
  while (bytes > 0) {
    // A copy that fits into a slot is not cut in two.
    if (slot_bytes - used_ < std::min(bytes, slot_bytes)) enter_next_slot();
    const std::size_t piece = std::min(bytes, slot_bytes);
    std::byte* const pinned = memory_ + slot_ * slot_bytes + used_;
    std::memcpy(pinned, from, piece);
    LEXRING_CUDA_CALL(cudaMemcpyAsync(to_device, pinned, piece, cudaMemcpyHostToDevice, stream_));
    LEXRING_CUDA_CALL(cudaEventRecord(copied_[slot_], stream_));
    used_ = std::min((used_ + piece + alignment - 1) / alignment * alignment, slot_bytes);
    to_device += piece, from += piece, bytes -= piece;
  }
}

}  // namespace lexring
