#include "tests/support/fake_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "framework/base/error.h"

namespace lexring::testing {
namespace {

/// The same memory at two addresses, of which one may not be touched.
class Arena {
 public:
  static constexpr std::size_t size = std::size_t{8} << 30;

  Arena() {
    const int file = memfd_create("device", 0);
    require(file >= 0 && ftruncate(file, size) == 0, "no memory for a device");
    void* const real = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    void* const shown = mmap(nullptr, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
    require(real != MAP_FAILED && shown != MAP_FAILED, "no addresses for a device");
    close(file);
    real_ = static_cast<std::byte*>(real), shown_ = static_cast<std::byte*>(shown);
  }

  std::byte* take(std::size_t bytes) {
    const std::size_t first = used_.fetch_add(bytes);
    return first + bytes <= size ? shown_ + first : nullptr;
  }
  void show(bool shown) {
    require(mprotect(shown_, size, shown ? PROT_READ | PROT_WRITE : PROT_NONE) == 0,
            "no access to the device's memory");
  }
  std::byte* behind(std::byte* address) const {
    return address >= shown_ && address < shown_ + size ? real_ + (address - shown_) : address;
  }

 private:
  std::byte* real_ = nullptr;
  std::byte* shown_ = nullptr;
  std::atomic<std::size_t> used_ = 0;
};

Arena& arena() {
  static Arena arena;
  return arena;
}

class FakeEvent final : public SideCopies::Event {
 public:
  explicit FakeEvent(std::shared_ptr<Signal> its_signal) : signal(std::move(its_signal)) {}
  bool passed() override { return signal->passed(); }

  std::shared_ptr<Signal> signal;
};

class FakeCopies final : public SideCopies {
 public:
  explicit FakeCopies(FakeRuntime& runtime) : runtime_(&runtime) {}

  std::shared_ptr<std::byte> pinned(std::size_t bytes) override {
    std::shared_ptr<std::byte[]> memory(new std::byte[bytes]);
    std::memset(memory.get(), 0xff, bytes);
    return {memory, memory.get()};
  }
  std::unique_ptr<Event> out(std::span<const Part> parts) override {
    out_.wait_for(runtime_->stream().record());
    return copy(parts, out_);
  }
  std::unique_ptr<Event> in(std::span<const Part> parts, const Event& before) override {
    in_.wait_for(static_cast<const FakeEvent&>(before).signal);
    return copy(parts, in_);
  }
  void let_runtime_wait(const Event& event) override {
    runtime_->stream().wait_for(static_cast<const FakeEvent&>(event).signal);
  }

 private:
  static std::unique_ptr<Event> copy(std::span<const Part> parts, FakeStream& stream) {
    for (const Part& part : parts) stream.add([part] { std::memcpy(behind(part.to), behind(part.from), part.bytes); });
    return std::make_unique<FakeEvent>(stream.record());
  }

  FakeRuntime* runtime_;
  FakeStream out_, in_;
};

}  // namespace

void Signal::set() {
  const std::scoped_lock lock(mutex_);
  passed_ = true;
  when_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

void Signal::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return passed_; });
}

bool Signal::passed() {
  const std::scoped_lock lock(mutex_);
  return passed_;
}

std::chrono::steady_clock::time_point Signal::when() {
  const std::scoped_lock lock(mutex_);
  return when_;
}

FakeStream::FakeStream()
    : random_(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(this))), thread_([this] { run(); }) {}

FakeStream::~FakeStream() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeStream::add(std::function<void()> task) {
  const std::scoped_lock lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

std::shared_ptr<Signal> FakeStream::record() {
  auto signal = std::make_shared<Signal>();
  add([signal] { signal->set(); });
  return signal;
}

void FakeStream::wait_for(std::shared_ptr<Signal> signal) {
  add([signal = std::move(signal)] { signal->wait(); });
}

void FakeStream::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    if (random_() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random_() % 300));
    task();
    lock.lock();
  }
}

std::byte* behind(const void* address) { return arena().behind(static_cast<std::byte*>(const_cast<void*>(address))); }

void show_device_memory(bool shown) { arena().show(shown); }

std::byte* FakeRuntime::take(std::size_t bytes) { return arena().take(bytes); }

std::shared_ptr<std::byte> FakeRuntime::allocate(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  std::byte* const memory = pool_.take(bytes);
  require(memory != nullptr, "the device has no memory left");
  stream_.add([=] { std::memset(behind(memory), 0xff, bytes); });
  return {memory, [this](std::byte* block) {
            const std::scoped_lock giving(mutex_);
            pool_.give_back(block);
          }};
}

void FakeRuntime::copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) {
  stream_.add(
      [to, kept = std::vector<std::byte>(from, from + bytes)] { std::copy(kept.begin(), kept.end(), behind(to)); });
}

void FakeRuntime::copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) {
  copy(to, from, bytes);
  stream_.synchronise();
}

void FakeRuntime::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes > 0) stream_.add([=] { std::memcpy(behind(to), behind(from), bytes); });
}

std::unique_ptr<SideCopies> make_fake_copies(FakeRuntime& runtime) { return std::make_unique<FakeCopies>(runtime); }

}  // namespace lexring::testing
