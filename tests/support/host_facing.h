/// Tests of communicators are written for memory of the host: here it is taken to a device for every call, and back
/// when it was waited for.
#pragma once

#include <vector>

#include "parallel/comm/host/mpi_communicator.h"

namespace lexring::testing {

/// What a call uses of the device.
class OnDevice {
 public:
  explicit OnDevice(Runtime& runtime) : runtime_(&runtime) {}

  std::span<std::byte> upload(std::span<const std::byte> host) {
    const auto device = room(host.size());
    runtime_->copy_from_host(device.data(), host.data(), host.size());
    return device;
  }
  std::span<std::byte> room(std::size_t bytes) {
    held_.push_back(runtime_->allocate(bytes));
    return {held_.back().get(), bytes};
  }
  void bring_back(std::span<const std::byte> device, std::span<std::byte> host) { back_.push_back({device, host}); }
  void download() const {
    for (const auto& [device, host] : back_) runtime_->copy_to_host(host.data(), device.data(), device.size());
  }

 private:
  struct Back {
    std::span<const std::byte> device;
    std::span<std::byte> host;
  };
  Runtime* runtime_;
  std::vector<std::shared_ptr<std::byte>> held_;
  std::vector<Back> back_;
};

class DownloadingWork final : public Pending::Work {
 public:
  DownloadingWork(OnDevice used, Pending pending) : used_(std::move(used)), pending_(std::move(pending)) {}
  void wait() override {
    pending_.wait();
    used_.download();
  }
  bool done() const override { return pending_.done(); }

 private:
  OnDevice used_;
  Pending pending_;
};

/// `Base` is made of an MpiCommunicator and a shared `Device`, which has a `runtime`.
template <class Base, class Device>
class HostFacing final : public Base {
 public:
  using Base::Base;
  HostFacing(MpiCommunicator& host, std::shared_ptr<Device> device) : Base(host, device), device_(std::move(device)) {}

  /// `call`: of the group that it is split from.
  static std::unique_ptr<Communicator> make(std::unique_ptr<Communicator> host, std::shared_ptr<Device> device,
                                            std::uint64_t call = 1) {
    auto* const mpi = dynamic_cast<MpiCommunicator*>(host.get());
    if (mpi == nullptr) return host;  // a group of one moves nothing
    if constexpr (requires { Base::agree_on_id(*host); }) {
      const auto id = Base::agree_on_id(*host);
      auto made = std::make_unique<HostFacing>(*mpi, std::move(device));
      made->connect(id, call);
      return made;
    } else {
      return std::make_unique<HostFacing>(*mpi, std::move(device));
    }
  }

 protected:
  Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override {
    return on_device(values, [&](std::span<std::byte> device) {
      return Base::do_reduce_scatter(device, dtype, std::move(borders));
    });
  }
  Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override {
    return on_device(
        values, [&](std::span<std::byte> device) { return Base::do_gather_slices(device, dtype, std::move(borders)); });
  }
  Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) override {
    return on_device(values, [&](std::span<std::byte> device) { return Base::do_start_all_reduce(device, dtype); });
  }
  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override {
    OnDevice used(device_->runtime);
    for (Outgoing& part : outgoing) part.bytes = used.upload(part.bytes);
    for (Incoming& part : incoming) {
      const auto device = used.room(part.bytes.size());
      used.bring_back(device, part.bytes);
      part.bytes = device;
    }
    Pending pending = Base::do_exchange(std::move(outgoing), std::move(incoming));
    return Pending(std::make_unique<DownloadingWork>(std::move(used), std::move(pending)));
  }
  std::unique_ptr<Communicator> do_split(const std::string& name, int color) override {
    return make(MpiCommunicator::do_split(name, color), device_, this->call().number);
  }

 private:
  template <class F>
  Pending on_device(std::span<std::byte> values, const F& start) {
    OnDevice used(device_->runtime);
    const auto device = used.upload(values);
    used.bring_back(device, values);
    Pending pending = start(device);
    return Pending(std::make_unique<DownloadingWork>(std::move(used), std::move(pending)));
  }

  std::shared_ptr<Device> device_;
};

}  // namespace lexring::testing
