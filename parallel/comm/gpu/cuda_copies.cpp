#include "parallel/comm/gpu/cuda_copies.h"

#include <mutex>

#include "parallel/comm/gpu/cuda_event.h"

namespace lexring {
namespace {

class EventOfCopies final : public SideCopies::Event {
 public:
  bool passed() override { return event.passed(); }

  CudaEvent event;
};

class CudaCopies final : public SideCopies {
 public:
  CudaCopies(CUstream_st* stream, int index) : stream_(stream), index_(index) {}

  std::shared_ptr<std::byte> pinned(std::size_t bytes) override {
    void* memory = nullptr;
    LEXRING_CUDA_CALL(cudaSetDevice(index_));
    LEXRING_CUDA_CALL(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable));
    return {static_cast<std::byte*>(memory), [index = index_](std::byte* p) {
              static_cast<void>(cudaSetDevice(index));
              static_cast<void>(cudaFreeHost(p));
            }};
  }

  std::unique_ptr<Event> out(std::span<const Part> parts) override {
    const std::scoped_lock lock(mutex_);
    LEXRING_CUDA_CALL(cudaSetDevice(index_));
    asked_.record(stream_);
    asked_.hold_back(out_.get());
    return copy(parts, cudaMemcpyDeviceToHost, out_);
  }

  std::unique_ptr<Event> in(std::span<const Part> parts, const Event& before) override {
    const std::scoped_lock lock(mutex_);
    LEXRING_CUDA_CALL(cudaSetDevice(index_));  // of the thread that moves messages
    static_cast<const EventOfCopies&>(before).event.hold_back(in_.get());
    return copy(parts, cudaMemcpyHostToDevice, in_);
  }

  void let_runtime_wait(const Event& event) override {
    LEXRING_CUDA_CALL(cudaSetDevice(index_));
    static_cast<const EventOfCopies&>(event).event.hold_back(stream_);
  }

 private:
  static std::unique_ptr<Event> copy(std::span<const Part> parts, cudaMemcpyKind kind, const CudaStream& stream) {
    for (const Part& part : parts)
      LEXRING_CUDA_CALL(cudaMemcpyAsync(part.to, part.from, part.bytes, kind, stream.get()));
    auto done = std::make_unique<EventOfCopies>();
    done->event.record(stream.get());
    return done;
  }

  CUstream_st* stream_;
  int index_;
  std::mutex mutex_;
  CudaEvent asked_;
  CudaStream out_, in_;
};

}  // namespace

std::unique_ptr<SideCopies> make_cuda_copies(CUstream_st* stream, int index) {
  LEXRING_CUDA_CALL(cudaSetDevice(index));
  return std::make_unique<CudaCopies>(stream, index);
}

}  // namespace lexring
