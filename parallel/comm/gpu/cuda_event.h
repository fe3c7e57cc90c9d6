/// CUDA's streams and events as handles.
#pragma once

#include "framework/device/cuda/call.h"

namespace lexring {

/// The device that was the thread's when this was made. Helper threads end and ask what others have made: theirs would
/// be device 0, where CUDA would make a second context for them.
class HomeDevice {
 public:
  HomeDevice() { LEXRING_CUDA_CALL(cudaGetDevice(&index_)); }
  /// Makes it the calling thread's.
  cudaError_t enter() const noexcept { return cudaSetDevice(index_); }

 private:
  int index_ = 0;
};

/// passed() and seconds_until() may be asked, and it may end, in any thread.
class CudaEvent {
 public:
  enum class Timing { without, with };

  explicit CudaEvent(Timing timing = Timing::without) {
    LEXRING_CUDA_CALL(
        cudaEventCreateWithFlags(&event_, timing == Timing::with ? cudaEventDefault : cudaEventDisableTiming));
  }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent() {
    static_cast<void>(device_.enter());
    static_cast<void>(cudaEventDestroy(event_));
  }

  void record(cudaStream_t stream) const { LEXRING_CUDA_CALL(cudaEventRecord(event_, stream)); }
  /// What `stream` is asked for from now on waits for the last record.
  void hold_back(cudaStream_t stream) const { LEXRING_CUDA_CALL(cudaStreamWaitEvent(stream, event_, 0)); }
  bool passed() const {
    LEXRING_CUDA_CALL(device_.enter());
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) return false;
    LEXRING_CUDA_CALL(status);
    return true;
  }
  double seconds_until(const CudaEvent& later) const {
    LEXRING_CUDA_CALL(device_.enter());
    float milliseconds = 0;
    LEXRING_CUDA_CALL(cudaEventElapsedTime(&milliseconds, event_, later.event_));
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  HomeDevice device_;
  cudaEvent_t event_ = nullptr;
};

/// Beside other streams of the device, the default one too. Waits for its work when it ends.
class CudaStream {
 public:
  enum class Priority { usual, highest };

  explicit CudaStream(Priority priority = Priority::usual) {
    int least = 0, greatest = 0;
    LEXRING_CUDA_CALL(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    LEXRING_CUDA_CALL(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                                   priority == Priority::highest ? greatest : least));
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream() {
    static_cast<void>(device_.enter());
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  cudaStream_t get() const { return stream_; }

 private:
  HomeDevice device_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace lexring
