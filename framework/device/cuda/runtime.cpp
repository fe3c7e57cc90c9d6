#include "framework/device/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <mutex>

#include <fmt/format.h>

#include "framework/device/block_pool.h"
#include "framework/device/cuda/call.h"
#include "framework/device/cuda/staging_ring.h"
#include "framework/device/memory_account.h"

namespace lexring {
namespace {

constexpr std::size_t shared_memory_of_a_block = 160 << 10;  ///< no kernel asks for more but those for Hopper
constexpr std::size_t granule = 512;
constexpr std::size_t small_segment = 16 << 20, large_segment = 32 << 20, large = 1 << 20;

/// nullptr where the device has no more. What goes wrong otherwise (an earlier kernel's error) is thrown.
std::byte* take_from_device(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // it is dealt with
    return nullptr;
  }
  LEXRING_CUDA_CALL(status);
  return static_cast<std::byte*>(memory);
}

/// cudaFree waits for the device, so that nothing in the stream still uses the memory. Its errors are of kernels
/// before; a later call throws them.
BlockPool::Source device_memory() {
  return {take_from_device, [](std::byte* memory, std::size_t) { static_cast<void>(cudaFree(memory)); }};
}

/// Small blocks lie apart, so that they do not keep large ones from growing together.
class DeviceMemory {
 public:
  /// nullptr where the device has no more, also after unused segments of both kinds went back.
  std::byte* take(std::size_t bytes) {
    std::byte* memory = pool(bytes).take(bytes);
    if (memory == nullptr) {
      trim();
      memory = pool(bytes).take(bytes);
    }
    return memory;
  }
  void give_back(std::byte* block, std::size_t bytes) { pool(bytes).give_back(block); }
  std::size_t size_of(std::size_t bytes) { return pool(bytes).size_of(bytes); }
  void trim() { small_.trim(), large_.trim(); }

 private:
  /// The same of what was asked for as of the block that was made of it.
  BlockPool& pool(std::size_t bytes) { return small_.size_of(bytes) < large ? small_ : large_; }

  BlockPool small_{device_memory(), granule, small_segment}, large_{device_memory(), granule, large_segment};
};

class Stream {
 public:
  Stream() { LEXRING_CUDA_CALL(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// The device is the thread's from here on: before its stream and its memory are made.
cudaDeviceProp enter(int index) {
  std::string why_none;
  const int count = visible_cuda_devices(&why_none);
  require_usage(count > 0, "there is no CUDA device ({}); see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
                why_none);
  require_usage(index >= 0 && index < count, "there is no CUDA device {}: {} are visible; see CUDA_VISIBLE_DEVICES",
                index, count);
  LEXRING_CUDA_CALL(cudaSetDevice(index));
  cudaDeviceProp properties{};
  LEXRING_CUDA_CALL(cudaGetDeviceProperties(&properties, index));
  require_usage(properties.major >= 8,
                "{} has compute capability {}.{}; lexring's kernels need 8.0 (A100) or newer; use --device cpu",
                properties.name, properties.major, properties.minor);
  require_usage(properties.sharedMemPerBlockOptin >= shared_memory_of_a_block,
                "{} has {} KiB of shared memory for a block of threads, and lexring's kernels need {}: A100, H100, "
                "H200 and their relatives have; use --device cpu",
                properties.name, properties.sharedMemPerBlockOptin >> 10, shared_memory_of_a_block >> 10);
  return properties;
}

}  // namespace

int visible_cuda_devices(std::string* why_none) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  static_cast<void>(cudaGetLastError());  // it is dealt with
  const cudaError_t reason = status == cudaSuccess ? cudaErrorNoDevice : status;
  if (why_none != nullptr) *why_none = fmt::format("{}: {}", cudaGetErrorName(reason), cudaGetErrorString(reason));
  return 0;
}

std::size_t free_device_memory(int index) {
  std::size_t free = 0, total = 0;
  LEXRING_CUDA_CALL(cudaSetDevice(index));
  LEXRING_CUDA_CALL(cudaMemGetInfo(&free, &total));
  return free;
}

struct CudaRuntime::Implementation {
  struct Block {
    std::byte* memory;
    std::size_t size;
    MemoryAccount::Place place;
  };

  explicit Implementation(int device_index) : index(device_index), properties(enter(device_index)) {}

  Block take(std::size_t bytes) {
    const std::scoped_lock lock(mutex);
    std::byte* const taken = memory.take(bytes);
    if (taken == nullptr) account.no_memory(bytes);
    const std::size_t size = memory.size_of(bytes);
    return {taken, size, account.take(MemoryPurpose::current(), size)};
  }
  void give_back(const Block& block) {
    const std::scoped_lock lock(mutex);
    account.give_back(block.place, block.size);
    memory.give_back(block.memory, block.size);
  }

  int index;
  cudaDeviceProp properties;
  mutable std::mutex mutex;  ///< of memory and account
  DeviceMemory memory;
  MemoryAccount account;
  Stream stream;
  StagingRing staging{stream.get()};
};

CudaRuntime::CudaRuntime(int index) : implementation_(std::make_unique<Implementation>(index)) {
  static_assert(StagingRing::slots * StagingRing::slot_bytes == staging_bytes);
}

CudaRuntime::~CudaRuntime() {
  static_cast<void>(cudaSetDevice(implementation_->index));
  static_cast<void>(cudaStreamSynchronize(stream()));
}

Device CudaRuntime::device() const { return {DeviceType::cuda, implementation_->index}; }

std::shared_ptr<std::byte> CudaRuntime::allocate(std::size_t bytes) {
  use_device();
  const Implementation::Block block = implementation_->take(bytes);
  std::shared_ptr<std::byte> memory(block.memory, [this, block](std::byte*) { implementation_->give_back(block); });
#ifndef NDEBUG
  LEXRING_CUDA_CALL(cudaMemsetAsync(block.memory, 0xff, block.size, stream()));
#endif
  return memory;
}

void CudaRuntime::copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) {
  use_device();
  implementation_->staging.copy(to, from, bytes);
}

void CudaRuntime::copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) {
  use_device();
  if (bytes > 0) LEXRING_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
  LEXRING_CUDA_CALL(cudaStreamSynchronize(stream()));
}

void CudaRuntime::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  use_device();
  if (bytes > 0) LEXRING_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
}

void CudaRuntime::synchronise() {
  use_device();
  LEXRING_CUDA_CALL(cudaStreamSynchronize(stream()));
}

MemoryUse CudaRuntime::memory() const {
  const std::scoped_lock lock(implementation_->mutex);
  return implementation_->account.use();
}

std::vector<MemoryShare> CudaRuntime::shares_at_peak() const {
  const std::scoped_lock lock(implementation_->mutex);
  return implementation_->account.shares_at_peak();
}

void CudaRuntime::reset_peak() {
  const std::scoped_lock lock(implementation_->mutex);
  implementation_->account.reset_peak();
}

void CudaRuntime::trim() {
  use_device();
  const std::scoped_lock lock(implementation_->mutex);
  implementation_->memory.trim();
}

CUstream_st* CudaRuntime::stream() const { return implementation_->stream.get(); }
void CudaRuntime::use_device() const { LEXRING_CUDA_CALL(cudaSetDevice(implementation_->index)); }
int CudaRuntime::multiprocessors() const { return implementation_->properties.multiProcessorCount; }

}  // namespace lexring
