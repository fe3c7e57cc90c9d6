#include "parallel/comm/gpu/nccl.h"

#include <algorithm>

#include "parallel/comm/fold.h"
#include "parallel/comm/gpu/device_fold.h"
#include "parallel/comm/gpu/nccl_communicator.h"

namespace lexring {
namespace {

constexpr std::size_t most_scratch = std::size_t{64} << 20;
constexpr std::int64_t aligned = 64;  // elements: so that every rank's part can be read in packs

ncclUniqueId new_id() {
  ncclUniqueId id;
  LEXRING_NCCL_CALL(ncclGetUniqueId(&id));
  return id;
}

std::span<std::byte> bytes_of(ncclUniqueId& id) { return std::as_writable_bytes(std::span(&id, 1)); }

std::size_t largest_slice(const std::vector<std::int64_t>& borders) {
  std::int64_t largest = 0;
  for (std::size_t r = 0; r + 1 < borders.size(); ++r) largest = std::max(largest, borders[r + 1] - borders[r]);
  return static_cast<std::size_t>(largest);
}

/// NCCL's calls during its life are handed over together. Whatever happens between them: it ends, and the thread's
/// later calls are not part of it.
class CallsAtOnce {
 public:
  CallsAtOnce() { LEXRING_NCCL_CALL(ncclGroupStart()); }
  CallsAtOnce(const CallsAtOnce&) = delete;
  CallsAtOnce& operator=(const CallsAtOnce&) = delete;
  ~CallsAtOnce() {
    if (open_) static_cast<void>(ncclGroupEnd());
  }
  void hand_over() {
    open_ = false;
    LEXRING_NCCL_CALL(ncclGroupEnd());
  }

 private:
  bool open_ = true;
};

}  // namespace

std::string nccl_version() {
  int version = 0;
  LEXRING_NCCL_CALL(ncclGetVersion(&version));
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Runtime& runtime,
                                                     CUstream_st* stream) {
  auto* const mpi = dynamic_cast<MpiCommunicator*>(host.get());
  if (mpi == nullptr) return make_self_communicator(host->name(), &runtime);
  return std::make_unique<NcclCommunicator>(*mpi, std::make_shared<NcclDevice>(NcclDevice{runtime, stream}));
}

NcclCommunicator::NcclCommunicator(MpiCommunicator& host, std::shared_ptr<NcclDevice> device)
    : MpiCommunicator(host.release(), host.progress()),
      device_(std::move(device)),
      nccl_(std::make_shared<NcclGroup>(device_, name(), group().world_ranks, rank(), ledger(), progress())) {}

ncclUniqueId NcclCommunicator::agree_on_id(Communicator& host) {
  ncclUniqueId id = host.rank() == 0 ? new_id() : ncclUniqueId{};
  host.broadcast(bytes_of(id), 0);
  return id;
}

void NcclCommunicator::connect(const ncclUniqueId& id, std::uint64_t number) {
  nccl_->connect({"connect", number, 0}, id);
}

std::unique_ptr<Communicator> NcclCommunicator::do_split(const std::string& name, int color) {
  const auto part = MpiCommunicator::do_split(name, color);
  auto* const mpi = dynamic_cast<MpiCommunicator*>(part.get());
  if (mpi == nullptr) return make_self_communicator(name, &device_->runtime);
  const ncclUniqueId id = agree_on_id(*part);
  auto made = std::make_unique<NcclCommunicator>(*mpi, device_);
  made->connect(id, call().number);
  return made;
}

std::unique_ptr<Communicator> NcclCommunicator::do_alone(const std::string& name) const {
  return make_self_communicator(name, &device_->runtime);
}

Pending NcclCommunicator::do_reduce_scatter(std::span<std::byte> values, Dtype dtype,
                                            std::vector<std::int64_t> borders) {
  static_cast<void>(sum_of(dtype));  // refuses what cannot be added
  const Tensor scratch = scratch_for(dtype, borders);
  return start(values.size() - slice(values, size_of(dtype), borders, rank()).size(), everybody_else(), scratch,
               [&] { reduce(values, dtype, borders, scratch); });
}

Pending NcclCommunicator::do_gather_slices(std::span<std::byte> values, Dtype dtype,
                                           std::vector<std::int64_t> borders) {
  const std::size_t others = static_cast<std::size_t>(size()) - 1;
  return start(slice(values, size_of(dtype), borders, rank()).size() * others, everybody_else(), {},
               [&] { gather(values, size_of(dtype), borders); });
}

Pending NcclCommunicator::do_start_all_reduce(std::span<std::byte> values, Dtype dtype) {
  static_cast<void>(sum_of(dtype));
  const auto borders = even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size());
  const Tensor scratch = scratch_for(dtype, borders);
  const std::size_t own = slice(values, size_of(dtype), borders, rank()).size(),
                    others = static_cast<std::size_t>(size()) - 1;
  return start(values.size() - own + own * others, everybody_else(), scratch, [&] {
    reduce(values, dtype, borders, scratch);
    gather(values, size_of(dtype), borders);
  });
}

Pending NcclCommunicator::do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) {
  copy_to_oneself(outgoing, incoming, rank(), &device_->runtime);
  const auto leave_out = [&](int peer, std::size_t bytes) { return peer == rank() || bytes == 0; };
  std::erase_if(outgoing, [&](const Outgoing& part) { return leave_out(part.to, part.bytes.size()); });
  std::erase_if(incoming, [&](const Incoming& part) { return leave_out(part.from, part.bytes.size()); });
  std::size_t bytes = 0;
  std::vector<int> peers;
  for (const Outgoing& part : outgoing) bytes += part.bytes.size(), peers.push_back(part.to);
  for (const Incoming& part : incoming) peers.push_back(part.from);
  return start(bytes, peers, {}, [&] { exchange(outgoing, incoming); });
}

/// In an order in which everybody begins with another rank.
std::vector<int> NcclCommunicator::everybody_else() const {
  std::vector<int> ranks;
  for (int k = 1; k < size(); ++k) ranks.push_back((rank() + k) % size());
  return ranks;
}

Pending NcclCommunicator::start(std::size_t bytes, std::vector<int> peers, Tensor scratch,
                                const std::function<void()>& enqueue) {
  if (!nccl_->connected()) {
    ncclUniqueId id = rank() == 0 ? new_id() : ncclUniqueId{};
    do_broadcast(bytes_of(id), 0);
    nccl_->connect(call(), id);
  }
  ledger()->sent(call(), bytes);
  if (peers.empty()) return {};
  return nccl_->start({call(), bytes, std::move(peers), std::move(scratch)}, enqueue);
}

/// Elements of every rank's part of a slice that are on their way at one time; the same on every rank.
std::int64_t NcclCommunicator::block_of(Dtype dtype, const std::vector<std::int64_t>& borders) const {
  const std::size_t fits = most_scratch / (static_cast<std::size_t>(size() - 1) * size_of(dtype));
  const auto largest = static_cast<std::int64_t>(largest_slice(borders));
  return std::min((largest + aligned - 1) / aligned, static_cast<std::int64_t>(fits) / aligned) * aligned;
}

Tensor NcclCommunicator::scratch_for(Dtype dtype, const std::vector<std::int64_t>& borders) const {
  const MemoryPurpose purpose("messages: sums");
  const auto own = static_cast<std::size_t>(rank());
  const std::int64_t elements = borders[own + 1] > borders[own] ? block_of(dtype, borders) * (size() - 1) : 0;
  return {device_->runtime, {elements}, dtype};
}

void NcclCommunicator::reduce(std::span<std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders,
                              const Tensor& scratch) {
  const std::size_t element = size_of(dtype), block = static_cast<std::size_t>(block_of(dtype, borders)) * element;
  const auto part = [&](int r, std::size_t first) {
    const auto whole = slice(values, element, borders, r);
    first = std::min(first, whole.size());
    return whole.subspan(first, std::min(block, whole.size() - first));
  };
  for (std::size_t first = 0; first < largest_slice(borders) * element; first += block) {
    const auto own = part(rank(), first);
    std::vector<Outgoing> outgoing;
    std::vector<Incoming> incoming;
    for (const int r : everybody_else()) {
      const auto place = static_cast<std::size_t>(r < rank() ? r : r - 1);
      if (const auto theirs = part(r, first); !theirs.empty()) outgoing.push_back({r, theirs});
      if (!own.empty()) incoming.push_back({r, {scratch.raw() + place * block, own.size()}});
    }
    exchange(outgoing, incoming);
    if (own.empty()) continue;
    fold_on_device(nccl_->stream(), dtype, own.data(), scratch.raw(), static_cast<std::int64_t>(block / element),
                   static_cast<std::int64_t>(own.size() / element), rank(), size());
  }
}

void NcclCommunicator::gather(std::span<std::byte> values, std::size_t element,
                              const std::vector<std::int64_t>& borders) {
  const auto own = slice(values, element, borders, rank());
  bool equal = true;
  for (int r = 0; r < size(); ++r) equal = equal && slice(values, element, borders, r).size() == own.size();
  if (equal && !own.empty()) {
    LEXRING_NCCL_CALL(ncclAllGather(own.data(), values.data(), own.size(), ncclInt8, nccl_->handle(), nccl_->stream()));
    nccl_->complete();
    return;
  }
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (const int r : everybody_else()) {
    const auto theirs = slice(values, element, borders, r);
    if (!own.empty()) outgoing.push_back({r, own});
    if (!theirs.empty()) incoming.push_back({r, theirs});
  }
  exchange(outgoing, incoming);
}

/// Sending and receiving are one group: else two ranks that send to each other wait for ever. Nothing to or from
/// oneself, nothing empty.
void NcclCommunicator::exchange(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming) {
  if (outgoing.empty() && incoming.empty()) return;
  CallsAtOnce calls;
  for (const Outgoing& part : outgoing)
    LEXRING_NCCL_CALL(
        ncclSend(part.bytes.data(), part.bytes.size(), ncclInt8, part.to, nccl_->handle(), nccl_->stream()));
  for (const Incoming& part : incoming)
    LEXRING_NCCL_CALL(
        ncclRecv(part.bytes.data(), part.bytes.size(), ncclInt8, part.from, nccl_->handle(), nccl_->stream()));
  calls.hand_over();
  nccl_->complete();
}

}  // namespace lexring
