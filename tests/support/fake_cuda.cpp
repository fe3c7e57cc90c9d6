// The few functions of CUDA's runtime that communicators call, on the fake device. Linked instead of the real library.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "tests/support/fake_cuda.h"
#include "tests/support/fake_device.h"

namespace {

using lexring::testing::FakeStream;
using lexring::testing::Signal;

FakeStream& stream_of(cudaStream_t stream) { return *reinterpret_cast<FakeStream*>(stream); }
/// An event is the signal of its last record; one that was never recorded has passed.
std::shared_ptr<Signal>& signal_of(cudaEvent_t event) { return *reinterpret_cast<std::shared_ptr<Signal>*>(event); }

thread_local int threads_device = 0;
std::atomic<int> elsewhere = 0;
std::atomic<bool> events_are_broken = false;

/// The error of a call of this thread, if it is on another device.
cudaError_t on_the_device() {
  if (threads_device == lexring::testing::fake_gpu) return cudaSuccess;
  ++elsewhere;
  return cudaErrorInvalidResourceHandle;
}

}  // namespace

namespace lexring::testing {

int calls_on_another_device() { return elsewhere; }
void break_events(bool broken) { events_are_broken = broken; }

}  // namespace lexring::testing

extern "C" {

const char* cudaGetErrorString(cudaError_t) { return "an error"; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorFake"; }
cudaError_t cudaSetDevice(int index) {
  threads_device = index;
  return index == 0 || index == lexring::testing::fake_gpu ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDevice(int* index) {
  *index = threads_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = reinterpret_cast<cudaStream_t>(new FakeStream);
  return on_the_device();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream_of(stream).synchronise();
  return on_the_device();
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete &stream_of(stream);
  return on_the_device();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (signal_of(event)) stream_of(stream).wait_for(signal_of(event));
  return on_the_device();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new std::shared_ptr<Signal>);
  return on_the_device();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &signal_of(event);
  return on_the_device();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  signal_of(event) = stream_of(stream).record();
  return on_the_device();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (events_are_broken) return cudaErrorLaunchFailure;
  const cudaError_t status = on_the_device();
  return status != cudaSuccess || !signal_of(event) || signal_of(event)->passed() ? status : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (!signal_of(from)->passed() || !signal_of(to)->passed()) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(signal_of(to)->when() - signal_of(from)->when()).count();
  return on_the_device();
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = std::malloc(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : on_the_device();
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return on_the_device();
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  stream_of(stream).add([=] { std::memcpy(lexring::testing::behind(to), lexring::testing::behind(from), bytes); });
  return on_the_device();
}
}
