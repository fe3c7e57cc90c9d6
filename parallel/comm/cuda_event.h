/// CUDA's streams and events as handles.
#pragma once

#include <utility>

#include "framework/device/cuda/call.h"

namespace lexring {

class CudaEvent {
 public:
  enum class Timing { without, with };

  explicit CudaEvent(Timing timing = Timing::without) {
    LEXRING_CUDA_CALL(cudaEventCreateWithFlags(&event_, timing == Timing::with ? cudaEventDefault : cudaEventDisableTiming));
  }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~CudaEvent() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }

  void record(cudaStream_t stream) const { LEXRING_CUDA_CALL(cudaEventRecord(event_, stream)); }
  /// What `stream` is asked for from now on waits for the last record.
  void hold_back(cudaStream_t stream) const { LEXRING_CUDA_CALL(cudaStreamWaitEvent(stream, event_, 0)); }
  bool passed() const {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) return false;
    LEXRING_CUDA_CALL(status);
    return true;
  }
  double seconds_until(const CudaEvent& later) const {
    float milliseconds = 0;
    LEXRING_CUDA_CALL(cudaEventElapsedTime(&milliseconds, event_, later.event_));
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Beside other streams of the device, the default one too. Waits for its work when it ends.
class CudaStream {
 public:
  enum class Priority { usual, highest };

  explicit CudaStream(Priority priority = Priority::usual) {
    int least = 0, greatest = 0;
    LEXRING_CUDA_CALL(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    LEXRING_CUDA_CALL(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority == Priority::highest ? greatest : least));
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream() {
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace lexring
