/// A group of processes and its collectives. Public functions check and record; a private virtual does.
///
/// Every rank of the group calls the same functions in the same order. Host memory here; device tensors come with NCCL. A group of one
/// returns at once. Errors: a mismatch or a failure of the library throws Error naming operation, group and sequence number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lexring {

enum class Reduce { sum, max, min };

/// One call, for bytes-per-step tables and for the watchdog's last words.
struct CommRecord {
  std::string operation;
  std::uint64_t calls = 0;
  std::uint64_t bytes = 0;  ///< payload given by this rank
};

class Communicator {
 public:
  Communicator(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  /// In place. Deterministic: values are added in the order of the ranks, so the same group and inputs give the same bits on every rank,
  /// in every run and with every MPI library. A max or min over NaN is NaN.
  void all_reduce(std::span<float> values, Reduce op);
  void all_reduce(std::span<double> values, Reduce op);
  void all_reduce(std::span<std::int64_t> values, Reduce op);
  /// `values` of rank `root` to everybody, in place.
  void broadcast(std::span<std::byte> values, int root);
  /// Every rank's bytes (sizes may differ), by rank, on every rank.
  std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> mine);
  void barrier();
  /// Ranks with the same `color` form a group, ordered by their rank here. Collective.
  std::unique_ptr<Communicator> split(const std::string& name, int color);

  /// Calls and bytes so far, by operation.
  const std::vector<CommRecord>& records() const { return records_; }
  /// Calls so far: the number of the call that failed, in error messages.
  std::uint64_t sequence() const { return sequence_; }

 private:
  virtual void do_all_reduce(std::span<float> values, Reduce op) = 0;
  virtual void do_all_reduce(std::span<double> values, Reduce op) = 0;
  virtual void do_all_reduce(std::span<std::int64_t> values, Reduce op) = 0;
  virtual void do_broadcast(std::span<std::byte> values, int root) = 0;
  virtual std::vector<std::vector<std::byte>> do_all_gather(std::span<const std::byte> mine) = 0;
  virtual void do_barrier() = 0;
  virtual std::unique_ptr<Communicator> do_split(const std::string& name, int color) = 0;

  void note(const char* operation, std::size_t bytes);

  std::string name_;
  int rank_;
  int size_;
  std::uint64_t sequence_ = 0;
  std::vector<CommRecord> records_;
};

/// A group of one process, without any library.
std::unique_ptr<Communicator> make_self_communicator(std::string name = "self");

}  // namespace lexring
