/// The only file that sees MPI.
#include "parallel/comm/mpi.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#define OMPI_SKIP_MPICXX 1  // the C++ bindings that MPI 3 took out
#include <mpi.h>

#include "framework/base/error.h"

/// Throws Error with the call's text and the library's message unless the call succeeds.
#define LEXRING_MPI_CALL(call)                                                             \
  do {                                                                                     \
    const int status_ = (call);                                                            \
    if (status_ != MPI_SUCCESS) ::lexring::mpi_failed(#call, status_, __FILE__, __LINE__); \
  } while (false)

namespace lexring {
namespace {

[[noreturn]] void mpi_failed(const char* call, int status, const char* file, int line) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail("{} failed: {} ({}:{})", call, text, file, line);
}

/// What every collective begins with: each rank tells all others which call it is in. A mismatch becomes an error on every rank instead of
/// a hang or wrong numbers, and a payload that fits travels with it, so small collectives are one message.
struct Announcement {
  static constexpr std::size_t room = 224;
  char operation[16] = {};
  std::uint64_t sequence = 0;
  std::uint64_t bytes = 0;
  std::byte payload[room] = {};
};

constexpr std::size_t chunk_bytes = std::size_t{1} << 24;    ///< of one message: counts stay far below 2^31
constexpr std::size_t message_bytes = std::size_t{1} << 28;  ///< of one point-to-point message: its count fits an int
constexpr std::size_t reduce_bytes = std::size_t{1} << 20;   ///< reduced at one time: stays in the cache

template <class T>
void combine(std::span<T> into, const T* from, Reduce op) {
  const auto fold = [&](auto f) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = f(into[i], from[i]);
  };
  switch (op) {
    case Reduce::sum:
      return fold([](T a, T b) { return static_cast<T>(a + b); });
    // NaN wins from either side: no comparison with it holds.
    case Reduce::max:
      return fold([](T a, T b) { return a != a || a > b ? a : b; });
    case Reduce::min:
      return fold([](T a, T b) { return a != a || a < b ? a : b; });
  }
}

std::span<std::byte> slice(std::span<std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders, int rank) {
  const auto r = static_cast<std::size_t>(rank);
  return values.subspan(static_cast<std::size_t>(borders[r]) * size_of(dtype),
                        static_cast<std::size_t>(borders[r + 1] - borders[r]) * size_of(dtype));
}

/// own = the sum of `parts` slices that lie one after another, in their order; bf16 in f32, rounded once.
template <class T, class Sum>
void add_slices_of(std::span<std::byte> own, const std::vector<std::byte>& slices, int parts) {
  T* to = reinterpret_cast<T*>(own.data());
  const T* from = reinterpret_cast<const T*>(slices.data());
  const std::size_t count = own.size() / sizeof(T);
  for (std::size_t i = 0; i < count; ++i) {
    auto sum = static_cast<Sum>(from[i]);
    for (std::size_t r = 1; r < static_cast<std::size_t>(parts); ++r) sum += static_cast<Sum>(from[r * count + i]);
    to[i] = static_cast<T>(sum);
  }
}

void add_slices(std::span<std::byte> own, const std::vector<std::byte>& slices, int parts, Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return add_slices_of<float, float>(own, slices, parts);
    case Dtype::f64:
      return add_slices_of<double, double>(own, slices, parts);
    case Dtype::bf16:
      return add_slices_of<bfloat16, float>(own, slices, parts);
    case Dtype::i32:
      fail("a reduction of i32 was asked for; reduce floating values, or int64 with all_reduce");
  }
}

class MpiCommunicator final : public Communicator {
 public:
  /// Takes `group` over.
  MpiCommunicator(std::string name, MPI_Comm group, int rank, int size) : Communicator(std::move(name), rank, size), group_(group) {}
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&group_);
  }

 private:
  void do_all_reduce(std::span<float> values, Reduce op) override { reduce(values, op); }
  void do_all_reduce(std::span<double> values, Reduce op) override { reduce(values, op); }
  void do_all_reduce(std::span<std::int64_t> values, Reduce op) override { reduce(values, op); }

  /// MPI_Allreduce may add in any order, and need not give every rank the same bits. Here MPI only moves values: every rank collects one
  /// slice from all, adds it up in the order of the ranks, and hands it out; as many bytes as a ring all-reduce moves.
  template <class T>
  void reduce(std::span<T> values, Reduce op) {
    const auto all = announce("all_reduce", values.size_bytes(), std::as_bytes(values));
    if (values.size_bytes() <= Announcement::room) {
      std::vector<T> other(values.size());
      for (int r = 0; r < size(); ++r) {
        T* to = r == 0 ? values.data() : other.data();
        if (!values.empty()) std::memcpy(to, all[static_cast<std::size_t>(r)].payload, values.size_bytes());
        if (r > 0) combine(values, other.data(), op);
      }
      return;
    }
    for (std::size_t first = 0; first < values.size(); first += reduce_bytes / sizeof(T))
      reduce_block(values.subspan(first, std::min(values.size() - first, reduce_bytes / sizeof(T))), op);
  }

  template <class T>
  void reduce_block(std::span<T> block, Reduce op) {
    const auto ranks = static_cast<std::size_t>(size());
    std::vector<int> slice_bytes(ranks), slice_at(ranks), mine_bytes(ranks), mine_at(ranks);
    const auto border = [&](std::size_t r) { return block.size() * r / ranks; };
    const std::size_t mine = border(static_cast<std::size_t>(rank()) + 1) - border(static_cast<std::size_t>(rank()));
    for (std::size_t r = 0; r < ranks; ++r) {
      slice_at[r] = static_cast<int>(border(r) * sizeof(T));
      slice_bytes[r] = static_cast<int>(border(r + 1) * sizeof(T)) - slice_at[r];
      mine_bytes[r] = static_cast<int>(mine * sizeof(T));
      mine_at[r] = static_cast<int>(r * mine * sizeof(T));
    }
    staging_.resize(std::max(staging_.size(), reduce_bytes + ranks * sizeof(T)));
    T* parts = reinterpret_cast<T*>(staging_.data());
    LEXRING_MPI_CALL(MPI_Alltoallv(block.data(), slice_bytes.data(), slice_at.data(), MPI_BYTE, parts, mine_bytes.data(), mine_at.data(),
                                   MPI_BYTE, group_));
    for (std::size_t r = 1; r < ranks; ++r) combine(std::span<T>(parts, mine), parts + r * mine, op);
    LEXRING_MPI_CALL(MPI_Allgatherv(parts, static_cast<int>(mine * sizeof(T)), MPI_BYTE, block.data(), slice_bytes.data(), slice_at.data(),
                                    MPI_BYTE, group_));
  }

  void do_broadcast(std::span<std::byte> values, int root) override {
    const auto all = announce("broadcast", values.size(), values);
    if (values.size() <= Announcement::room) {
      if (!values.empty()) std::memcpy(values.data(), all[static_cast<std::size_t>(root)].payload, values.size());
      return;
    }
    for (std::size_t first = 0; first < values.size(); first += chunk_bytes) {
      const auto part = values.subspan(first, std::min(chunk_bytes, values.size() - first));
      LEXRING_MPI_CALL(MPI_Bcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, root, group_));
    }
  }

  std::vector<std::vector<std::byte>> do_all_gather(std::span<const std::byte> mine) override {
    const auto all = announce("all_gather", mine.size(), mine, Sizes::may_differ);
    std::vector<std::vector<std::byte>> result;
    std::size_t longest = 0;
    for (const Announcement& a : all) {
      result.emplace_back(a.bytes);
      longest = std::max<std::size_t>(longest, a.bytes);
    }
    if (longest <= Announcement::room) {
      for (std::size_t r = 0; r < all.size(); ++r) std::copy_n(all[r].payload, all[r].bytes, result[r].begin());
      return result;
    }
    std::copy(mine.begin(), mine.end(), result[static_cast<std::size_t>(rank())].begin());
    const std::size_t step = std::max<std::size_t>(chunk_bytes / all.size(), 1);
    for (std::size_t first = 0; first < longest; first += step) gather_part(result, first, step);
    return result;
  }

  /// Bytes [first, first + step) of every rank's vector.
  void gather_part(std::vector<std::vector<std::byte>>& result, std::size_t first, std::size_t step) {
    std::vector<int> counts, at;
    int total = 0;
    for (const auto& bytes : result) {
      counts.push_back(static_cast<int>(std::min(step, bytes.size() - std::min(first, bytes.size()))));
      at.push_back(total);
      total += counts.back();
    }
    std::vector<std::byte> part(static_cast<std::size_t>(total));
    const auto& own = result[static_cast<std::size_t>(rank())];
    LEXRING_MPI_CALL(MPI_Allgatherv(own.data() + std::min(first, own.size()), counts[static_cast<std::size_t>(rank())], MPI_BYTE,
                                    part.data(), counts.data(), at.data(), MPI_BYTE, group_));
    for (std::size_t r = 0; r < result.size(); ++r) {
      if (counts[r] > 0) std::memcpy(result[r].data() + first, part.data() + at[r], static_cast<std::size_t>(counts[r]));
    }
  }

  void do_barrier() override { announce("barrier", 0, {}); }

  /// Messages under way, and what is to be done with what they brought.
  class Transfer final : public Pending::Work {
   public:
    std::vector<MPI_Request> requests;
    std::vector<int> expected;            ///< bytes of the first requests, which receive
    std::vector<std::byte> staging;       ///< where parts of a reduction arrive
    std::function<void(Transfer&)> then;  ///< runs when all have arrived
    const MpiCommunicator* group = nullptr;

    void wait() override {
      std::vector<MPI_Status> statuses(requests.size());
      LEXRING_MPI_CALL(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), statuses.data()));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        int bytes = 0;
        LEXRING_MPI_CALL(MPI_Get_count(&statuses[i], MPI_BYTE, &bytes));
        require(bytes == expected[i], "group {}: rank {} sent {} bytes where {} were expected. This is a bug; please report it",
                group->name(), statuses[i].MPI_SOURCE, bytes, expected[i]);
      }
      if (then) then(*this);
    }
  };

  /// Messages of one call carry its number, so that calls under way at the same time never meet.
  std::unique_ptr<Transfer> begin(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming, std::uint64_t number,
                                  int stage = 0) {
    auto transfer = std::make_unique<Transfer>();
    transfer->group = this;
    const int tag = static_cast<int>(number % 8192) * 2 + stage;
    const auto in_messages = [&](int peer, auto bytes, auto post) {
      for (std::size_t first = 0; peer != rank() && first < bytes.size(); first += message_bytes)
        post(bytes.subspan(first, std::min(message_bytes, bytes.size() - first)));
    };
    for (const Incoming& part : incoming) {
      in_messages(part.from, part.bytes, [&](std::span<std::byte> message) {
        transfer->expected.push_back(static_cast<int>(message.size()));
        LEXRING_MPI_CALL(MPI_Irecv(message.data(), static_cast<int>(message.size()), MPI_BYTE, part.from, tag, group_,
                                   &transfer->requests.emplace_back()));
      });
    }
    for (const Outgoing& part : outgoing) {
      in_messages(part.to, part.bytes, [&](std::span<const std::byte> message) {
        LEXRING_MPI_CALL(MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, part.to, tag, group_,
                                   &transfer->requests.emplace_back()));
      });
    }
    return transfer;
  }

  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override {
    copy_to_oneself(outgoing, incoming, rank());
    return Pending(begin(outgoing, incoming, sequence()));
  }

  Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override {
    return Pending(begin_gather(values, dtype, borders, sequence(), 0));
  }

  std::unique_ptr<Transfer> begin_gather(std::span<std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders,
                                         std::uint64_t number, int stage) {
    std::vector<Outgoing> outgoing;
    std::vector<Incoming> incoming;
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      outgoing.push_back({r, slice(values, dtype, borders, rank())});
      incoming.push_back({r, slice(values, dtype, borders, r)});
    }
    return begin(outgoing, incoming, number, stage);
  }

  Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override {
    return Pending(begin_reduce(values, dtype, borders));
  }

  /// Every rank sends each other rank its slice, and adds up what arrives in the order of the ranks.
  std::unique_ptr<Transfer> begin_reduce(std::span<std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders) {
    const std::span<std::byte> own = slice(values, dtype, borders, rank());
    std::vector<std::byte> staging(own.size() * static_cast<std::size_t>(size()));
    std::vector<Outgoing> outgoing;
    std::vector<Incoming> incoming;
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      outgoing.push_back({r, slice(values, dtype, borders, r)});
      incoming.push_back({r, std::span(staging).subspan(own.size() * static_cast<std::size_t>(r), own.size())});
    }
    auto transfer = begin(outgoing, incoming, sequence());
    transfer->staging = std::move(staging);
    transfer->then = [this, own, dtype](Transfer& done) {
      if (!own.empty()) std::memcpy(done.staging.data() + own.size() * static_cast<std::size_t>(rank()), own.data(), own.size());
      add_slices(own, done.staging, size(), dtype);
    };
    return transfer;
  }

  Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) override {
    const auto borders = even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size());
    auto transfer = begin_reduce(values, dtype, borders);
    transfer->then = [this, values, dtype, borders, add = std::move(transfer->then), number = sequence()](Transfer& done) {
      add(done);
      begin_gather(values, dtype, borders, number, 1)->wait();
    };
    return Pending(std::move(transfer));
  }

  std::unique_ptr<Communicator> do_split(const std::string& name, int color) override {
    announce("split", 0, {});
    MPI_Comm group = MPI_COMM_NULL;
    LEXRING_MPI_CALL(MPI_Comm_split(group_, color, rank(), &group));
    return adopt(name, group);
  }

  enum class Sizes { equal, may_differ };
  std::vector<Announcement> announce(const char* operation, std::size_t bytes, std::span<const std::byte> payload,
                                     Sizes sizes = Sizes::equal) {
    Announcement own;
    std::strncpy(own.operation, operation, sizeof(own.operation) - 1);
    own.sequence = sequence();
    own.bytes = bytes;
    if (!payload.empty() && payload.size() <= Announcement::room) std::memcpy(own.payload, payload.data(), payload.size());
    std::vector<Announcement> all(static_cast<std::size_t>(size()));
    LEXRING_MPI_CALL(MPI_Allgather(&own, sizeof(own), MPI_BYTE, all.data(), sizeof(own), MPI_BYTE, group_));
    for (std::size_t r = 0; r < all.size(); ++r) {
      const Announcement& a = all[r];
      const bool agrees = a.sequence == own.sequence && std::strcmp(a.operation, own.operation) == 0 &&
                          (sizes == Sizes::may_differ || a.bytes == own.bytes);
      require(agrees,
              "ranks of group {} are not in the same call: rank {} is in {} of {} bytes (call {}), rank {} in {} of {} bytes (call {}). "
              "This is a bug; please report it with the command line",
              name(), rank(), own.operation, own.bytes, own.sequence, r, a.operation, a.bytes, a.sequence);
    }
    return all;
  }

 public:
  /// A communicator over an MPI group; a group of one needs no MPI and gives its handle back.
  static std::unique_ptr<Communicator> adopt(const std::string& name, MPI_Comm group) {
    int rank = 0, size = 1;
    LEXRING_MPI_CALL(MPI_Comm_set_errhandler(group, MPI_ERRORS_RETURN));
    LEXRING_MPI_CALL(MPI_Comm_rank(group, &rank));
    LEXRING_MPI_CALL(MPI_Comm_size(group, &size));
    if (size > 1) return std::make_unique<MpiCommunicator>(name, group, rank, size);
    LEXRING_MPI_CALL(MPI_Comm_free(&group));
    return make_self_communicator(name);
  }

 private:
  MPI_Comm group_;
  std::vector<std::byte> staging_;
};

/// How many processes the launcher meant to start, by the nearest launcher that says so: mpirun inside a Slurm job may start fewer than it
/// has tasks.
int launched_processes() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    if (const char* text = std::getenv(variable)) return std::atoi(text);
  }
  return 1;
}

}  // namespace

MpiSession::MpiSession(int argc, char** argv) {
  int provided = MPI_THREAD_SINGLE;
  LEXRING_MPI_CALL(MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided));
  LEXRING_MPI_CALL(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  MPI_Comm group = MPI_COMM_NULL;
  LEXRING_MPI_CALL(MPI_Comm_dup(MPI_COMM_WORLD, &group));
  world_ = MpiCommunicator::adopt("world", group);
  const int launched = launched_processes();
  if (world_->size() == 1 && launched > 1) {
    world_.reset();
    MPI_Finalize();
    fail(
        "{} processes were started, but MPI sees each of them alone: the launcher and the MPI library do not speak the same protocol. "
        "Start with "
        "`mpirun` of the MPI that lexring was built with, or with `srun --mpi=pmix` (see `srun --mpi=list`); for one process inside a "
        "Slurm job use `srun -n 1` or `mpirun -n 1`",
        launched);
  }
}

MpiSession::~MpiSession() {
  world_.reset();
  MPI_Finalize();
}

void MpiSession::end_all(int exit_code) {
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  fail("MPI_Abort returned");
}

}  // namespace lexring
