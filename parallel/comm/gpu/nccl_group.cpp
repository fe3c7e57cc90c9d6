#include "parallel/comm/gpu/nccl_group.h"

#include <algorithm>
#include <exception>
#include <thread>

namespace lexring {
namespace {

using namespace std::chrono_literals;
constexpr auto patience_at_the_end = 10s;  // for the other ranks to end too
constexpr auto others_first = 5s;          // longer than the watchdog's

/// A look now and then, the longer it takes the rarer.
class Pause {
 public:
  void operator()() {
    if (++looks_ < 200) std::this_thread::yield();
    else std::this_thread::sleep_for(20us);
  }

 private:
  int looks_ = 0;
};

/// Before an error that may come of another rank's end: that rank knows why it ended, and speaks first; then the
/// watchdog.
void let_others_speak() {
  if (std::uncaught_exceptions() == 0) std::this_thread::sleep_for(others_first);
}

}  // namespace

struct NcclGroup::Call {
  explicit Call(Request its_request) : request(std::move(its_request)) {}

  Request request;
  CudaEvent begun{CudaEvent::Timing::with}, done{CudaEvent::Timing::with};
  CudaEvent waits{CudaEvent::Timing::with}, goes_on{CudaEvent::Timing::with};  ///< of the runtime's stream
  bool waited = false;
  bool has_begun = false, has_ended = false;  ///< as far as anybody looked
  Clock::time_point since;                    ///< when it was first seen to have begun
};

class NcclGroup::Work final : public Pending::Work {
 public:
  Work(std::shared_ptr<NcclGroup> group, std::shared_ptr<Call> call)
      : group_(std::move(group)), call_(std::move(call)) {}
  void wait() override { group_->wait(*call_); }

 private:
  std::shared_ptr<NcclGroup> group_;
  std::shared_ptr<Call> call_;
};

/// While it lives the host is inside a call, and the watchdog looks on.
class NcclGroup::HostCall {
 public:
  HostCall(NcclGroup& group, const Request& request) : group_(&group) {
    const std::scoped_lock lock(group_->mutex_);
    group_->host_in_ = &request;
    group_->host_since_ = Clock::now();
  }
  HostCall(const HostCall&) = delete;
  HostCall& operator=(const HostCall&) = delete;
  ~HostCall() {
    const std::scoped_lock lock(group_->mutex_);
    group_->host_in_ = nullptr;
  }

 private:
  NcclGroup* group_;
};

NcclGroup::NcclGroup(std::shared_ptr<NcclDevice> device, std::string name, std::vector<int> world_ranks, int rank,
                     std::shared_ptr<CommLedger> ledger, std::shared_ptr<Progress> progress)
    : device_(std::move(device)),
      name_(std::move(name)),
      world_ranks_(std::move(world_ranks)),
      rank_(rank),
      ledger_(std::move(ledger)),
      progress_(std::move(progress)) {
  device_->groups.push_back(this);
  progress_->watch(*this);
}

NcclGroup::~NcclGroup() {
  progress_->unwatch(*this);
  if (std::uncaught_exceptions() > 0) break_off();
  if (handle_ != nullptr) {
    ncclResult_t status = ncclCommFinalize(handle_);
    const auto until = Clock::now() + patience_at_the_end;
    for (Pause pause; status == ncclInProgress && Clock::now() < until; pause()) {
      if (ncclCommGetAsyncError(handle_, &status) != ncclSuccess) status = ncclInternalError;
    }
    if (status == ncclSuccess) static_cast<void>(ncclCommDestroy(handle_));
    else if (status == ncclInProgress)
      static_cast<void>(ncclCommAbort(handle_));  // the others may only be late, and need the other groups
    else break_off();
  }
  std::erase(device_->groups, this);
}

/// What the device still does for any group ends; nothing may be asked of them any more. All at once, for the end of
/// one group's work may be behind another's that never ends; and under no lock, for it may take long, and the watchdog
/// looks on.
void NcclGroup::break_off() {
  std::vector<ncclComm_t> handles;
  for (NcclGroup* group : device_->groups) {
    const std::scoped_lock lock(group->mutex_);
    if (group->handle_ != nullptr) handles.push_back(std::exchange(group->handle_, nullptr));
    group->broken_ = true;
  }
  static_cast<void>(ncclGroupStart());
  for (ncclComm_t handle : handles) static_cast<void>(ncclCommAbort(handle));
  static_cast<void>(ncclGroupEnd());
}

void NcclGroup::connect(const CommCall& call, const ncclUniqueId& id) {
  std::vector<int> others;
  for (int r = 0; r < static_cast<int>(world_ranks_.size()); ++r) {
    if (r != rank_) others.push_back(r);
  }
  const Request request{call, 0, others, {}};
  progress_->began({name_, call.operation, call.number});
  const HostCall host(*this, request);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  config.commName = name_.c_str();
#endif
  try {
    ncclComm_t made = nullptr;
    LEXRING_NCCL_CALL(ncclCommInitRankConfig(&made, static_cast<int>(world_ranks_.size()), id, rank_, &config));
    {
      const std::scoped_lock lock(mutex_);
      handle_ = made;
    }
    complete();
  } catch (const Error& error) {
    break_off();
    fail("group {} could not be connected: {}", name_, error.what());
  }
}

void NcclGroup::complete() {
  ncclResult_t status = ncclInProgress;
  for (Pause pause; status == ncclInProgress;) {
    LEXRING_NCCL_CALL(ncclCommGetAsyncError(handle_, &status));
    if (status == ncclInProgress) pause();
  }
  if (status == ncclRemoteError) let_others_speak();
  if (status != ncclSuccess) nccl_failed("a call under way", status, handle_, __FILE__, __LINE__);
}

Pending NcclGroup::start(Request request, const std::function<void()>& enqueue) {
  require(handle_ != nullptr, "group {} was broken off by an error before", name_);
  progress_->began({name_, request.call.operation, request.call.number});
  settle();
  const auto call = std::make_shared<Call>(std::move(request));
  const HostCall host(*this, call->request);
  try {
    asked_.record(device_->stream);
    asked_.hold_back(stream());
    call->begun.record(stream());
    enqueue();
    call->done.record(stream());
  } catch (const Error& error) {
    break_off();
    fail("group {}, call {} ({}): {}", name_, call->request.call.number, call->request.call.operation, error.what());
  }
  {
    const std::scoped_lock lock(mutex_);
    calls_.push_back(call);
  }
  return Pending(std::make_unique<Work>(shared_from_this(), call));
}

void NcclGroup::wait(Call& call) {
  require(!broken_, "group {} was broken off by an error before", name_);
  if (const std::string failed = failure(); !failed.empty()) {
    let_others_speak();
    fail("{}", failed);
  }
  call.waits.record(device_->stream);
  call.done.hold_back(device_->stream);
  call.goes_on.record(device_->stream);
  call.request.scratch = Tensor();  // who gets the memory next works after that
  const std::scoped_lock lock(mutex_);
  call.waited = true;
}

void NcclGroup::settle() {
  const std::scoped_lock lock(mutex_);
  settle_locked();
}

/// Calls begin and end in their order.
void NcclGroup::settle_locked() {
  for (const auto& call : calls_) {
    if (!call->has_begun) {
      if (!call->begun.passed()) break;
      call->has_begun = true;
      call->since = Clock::now();
      reached_ = LastCall{name_, call->request.call.operation, call->request.call.number};
    }
    if (!call->has_ended) {
      if (!call->done.passed()) break;
      call->has_ended = true;
      ledger_->was_busy(call->begun.seconds_until(call->done));
    }
  }
  std::erase_if(calls_, [&](const std::shared_ptr<Call>& call) {
    if (!call->has_ended || (call->waited && !call->goes_on.passed())) return false;
    if (call->waited) ledger_->held_up(call->request.call, call->waits.seconds_until(call->goes_on));
    return call->waited || call.use_count() == 1;
  });
}

HeldUpCall NcclGroup::describe(const Request& request, const void* identity, Clock::time_point since) const {
  HeldUpCall held{identity, name_, request.call.operation, request.call.number, request.bytes, 0, {}};
  held.seconds = std::chrono::duration<double>(Clock::now() - since).count();
  for (const int peer : request.peers) held.peers.push_back(world_ranks_[static_cast<std::size_t>(peer)]);
  return held;
}

std::optional<HeldUpCall> NcclGroup::held_up() {
  const std::scoped_lock lock(mutex_);
  if (host_in_ != nullptr) return describe(*host_in_, host_in_, host_since_);
  try {
    settle_locked();
  } catch (const Error& error) {  // for failure(); the host may never come to it
    device_error_ = error.what();
    return std::nullopt;
  }
  const auto call = std::find_if(calls_.begin(), calls_.end(), [](const auto& c) { return !c->has_ended; });
  if (call == calls_.end() || !(*call)->has_begun || (*call)->request.peers.empty()) return std::nullopt;
  return describe((*call)->request, call->get(), (*call)->since);
}

std::optional<LastCall> NcclGroup::behind() {
  const std::scoped_lock lock(mutex_);
  const bool waiting = std::any_of(calls_.begin(), calls_.end(), [](const auto& call) { return !call->has_begun; });
  return waiting ? reached_ : std::nullopt;
}

std::string NcclGroup::failure() {
  const std::scoped_lock lock(mutex_);
  if (!device_error_.empty()) return fmt::format("met an error of its GPU in group {}: {}", name_, device_error_);
  // Not beside calls: NCCL ends its background work in whoever asks. The host asks there itself.
  if (handle_ == nullptr || host_in_ != nullptr) return "";
  ncclResult_t status = ncclSuccess;
  if (ncclCommGetAsyncError(handle_, &status) != ncclSuccess || status == ncclSuccess || status == ncclInProgress)
    return "";
  const std::string last =
      reached_ ? fmt::format("the last call that its GPU began was {} {}", reached_->operation, reached_->number)
               : "its GPU has begun none of its calls";
  return fmt::format("lost its GPU's connection in group {} (NCCL: {}: {}); {}", name_, ncclGetErrorString(status),
                     ncclGetLastError(handle_), last);
}

}  // namespace lexring
