// The few functions of NCCL that communicators call, between processes of one machine, on the fake device. Linked
// instead of the real library.
//
// Like a group made with blocking = 0: a call is in progress for a while, and only then handed to its stream. Messages
// of a group of calls move at once; messages of different groups of calls one after the other. Ranks that disagree
// hang, until they are aborted: an abort ends a group's messages at once, and then waits for its stream, when the group
// of calls ends that it is in.
#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/fold.h"
#include "parallel/comm/gpu/device_fold.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_nccl.h"

namespace {

using lexring::testing::behind;
using lexring::testing::FakeStream;

constexpr int most_ranks = 8;

/// From one rank to another: what was written and not taken yet.
struct Channel {
  static constexpr std::size_t room = 64 << 10;
  std::atomic<std::uint64_t> written, taken;
  std::byte bytes[room];
};
struct Shared {
  std::atomic<int> joined, left;
  Channel channels[most_ranks][most_ranks];  ///< [from][to]
};

struct Message {
  bool send;
  int peer;
  std::byte* bytes;
  std::size_t size;
  std::size_t done = 0;
};

}  // namespace

struct ncclComm {
  Shared* shared;
  int rank, size;
  std::string file;
  int looks = 0;  ///< until a call is no longer in progress
  std::vector<Message> asked = {};
  std::vector<Message> handing_over = {};
  FakeStream* stream = nullptr;
  bool connected = false, finalizing = false;
  std::shared_ptr<std::atomic<bool>> aborted = std::make_shared<std::atomic<bool>>(false);
};

namespace {

int depth = 0;                    // of ncclGroupStart
std::vector<ncclComm*> grouped;   // asked for something in the group
std::vector<ncclComm*> aborting;  // in the group
std::atomic<int> groups_made = 0;
bool refuses = false;
std::function<void()> meanwhile;  // while aborting

/// As far as it goes now; a rank's messages to, and from, one other go in their order.
void move_messages(Shared& shared, int rank, std::vector<Message> messages, const std::atomic<bool>& aborted) {
  const auto open = [](const Message& m) { return m.done < m.size; };
  while (!aborted && std::any_of(messages.begin(), messages.end(), open)) {
    std::array<std::array<bool, most_ranks>, 2> busy{};
    for (Message& m : messages) {
      bool& taken = busy[m.send][static_cast<std::size_t>(m.peer)];
      if (!open(m) || std::exchange(taken, true)) continue;
      Channel& channel = m.send ? shared.channels[rank][m.peer] : shared.channels[m.peer][rank];
      const std::uint64_t written = channel.written.load(), there = written - channel.taken.load();
      const std::uint64_t at = m.send ? written : channel.taken.load();
      const std::size_t free = m.send ? Channel::room - there : there, first = at % Channel::room;
      const std::size_t now = std::min({free, m.size - m.done, Channel::room - first});
      std::byte* const here = behind(m.bytes) + m.done;
      std::memcpy(m.send ? channel.bytes + first : here, m.send ? here : channel.bytes + first, now);
      m.done += now;
      (m.send ? channel.written : channel.taken).fetch_add(now);
    }
    std::this_thread::yield();
  }
}

ncclResult_t ask(ncclComm* group, FakeStream* stream, Message message) {
  if (group->looks > 0) return ncclInvalidUsage;  // the call before is still in progress
  if (std::exchange(refuses, false)) return ncclInternalError;
  group->asked.push_back(message);
  group->stream = stream;
  if (std::find(grouped.begin(), grouped.end(), group) == grouped.end()) grouped.push_back(group);
  return ncclSuccess;
}

/// Not yet: when it has been looked for often enough.
void hand_over(ncclComm* group) {
  group->handing_over = std::exchange(group->asked, {});
  group->looks = 20;
}

void end(ncclComm* group) {
  if (group->stream != nullptr) group->stream->synchronise();
  munmap(group->shared, sizeof(Shared));
  delete group;
}

}  // namespace

namespace lexring::testing {

void refuse_next_message() { refuses = true; }
int open_groups_of_calls() { return depth; }
void while_aborting(std::function<void()> what) { meanwhile = std::move(what); }

}  // namespace lexring::testing

extern "C" {

const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclRemoteError ? "remote process exited" : "an error";
}
const char* ncclGetLastError(ncclComm_t) { return "it was told to"; }
ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "/lexring_fake_nccl_%d_%d", getpid(), groups_made++);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (size > most_ranks || config->blocking != 0 || config->commName == nullptr) return ncclInvalidArgument;
  const int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return ncclSystemError;
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  auto* const group = new ncclComm{static_cast<Shared*>(memory), rank, size, id.internal};
  ++group->shared->joined;
  *made = group;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t group, ncclResult_t* status) {
  *status = ncclInProgress;
  if (group->finalizing) {
    if (group->shared->left == group->size) *status = ncclSuccess;
  } else if (!group->connected) {
    group->connected = group->shared->joined == group->size;
    if (group->connected) shm_unlink(group->file.c_str());
  } else if (group->looks == 0 || --group->looks == 0) {
    if (!group->handing_over.empty()) {
      group->stream->add([shared = group->shared, rank = group->rank, messages = std::exchange(group->handing_over, {}),
                          aborted = group->aborted] { move_messages(*shared, rank, messages, *aborted); });
    }
    *status = ncclSuccess;
  }
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t group) {
  group->finalizing = true;
  ++group->shared->left;
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t group) {
  end(group);
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t group) {
  *group->aborted = true;
  if (const auto what = std::exchange(meanwhile, nullptr)) what();
  if (depth > 0) aborting.push_back(group);
  else end(group);
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--depth > 0) return ncclSuccess;
  for (ncclComm* group : std::exchange(aborting, {})) end(group);
  for (ncclComm* group : std::exchange(grouped, {})) hand_over(group);
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* bytes, std::size_t count, ncclDataType_t type, int peer, ncclComm_t group,
                      cudaStream_t stream) {
  if (type != ncclInt8 || peer == group->rank || peer < 0 || peer >= group->size || depth == 0)
    return ncclInvalidArgument;
  return ask(group, reinterpret_cast<FakeStream*>(stream),
             {true, peer, static_cast<std::byte*>(const_cast<void*>(bytes)), count});
}
ncclResult_t ncclRecv(void* bytes, std::size_t count, ncclDataType_t type, int peer, ncclComm_t group,
                      cudaStream_t stream) {
  if (type != ncclInt8 || peer == group->rank || peer < 0 || peer >= group->size || depth == 0)
    return ncclInvalidArgument;
  return ask(group, reinterpret_cast<FakeStream*>(stream), {false, peer, static_cast<std::byte*>(bytes), count});
}
ncclResult_t ncclAllGather(const void* own, void* all, std::size_t count, ncclDataType_t, ncclComm_t group,
                           cudaStream_t stream) {
  if (own != static_cast<std::byte*>(all) + count * static_cast<std::size_t>(group->rank))
    return ncclInvalidArgument;  // in place only
  ncclGroupStart();
  for (int r = 0; r < group->size; ++r) {
    if (r == group->rank) continue;
    ncclSend(own, count, ncclInt8, r, group, stream);
    ncclRecv(static_cast<std::byte*>(all) + count * static_cast<std::size_t>(r), count, ncclInt8, r, group, stream);
  }
  return ncclGroupEnd();
}
}

namespace lexring {

/// The kernel, on the host; it has a test of its own.
void fold_on_device(CUstream_st* stream, Dtype dtype, std::byte* own, const std::byte* others, std::int64_t stride,
                    std::int64_t count, int rank, int ranks) {
  const auto step = static_cast<std::size_t>(stride) * size_of(dtype),
             bytes = static_cast<std::size_t>(count) * size_of(dtype);
  reinterpret_cast<FakeStream*>(stream)->add([=] {
    std::vector<const std::byte*> parts;
    for (int r = 0; r < ranks; ++r)
      parts.push_back(r == rank ? behind(own) : behind(others) + static_cast<std::size_t>(r < rank ? r : r - 1) * step);
    sum_of(dtype)({behind(own), bytes}, parts);
  });
}

}  // namespace lexring
