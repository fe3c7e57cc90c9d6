/// The two passes of sequence attention (attention.h), and what they share: calls of attention that meet own and remote
/// keys, one after the other.
#pragma once

#include "parallel/comm/communicator.h"
#include "parallel/sequence/tables.h"
#include "parallel/sequence/travel.h"

namespace lexring {

/// Keys that an attention call meets: own rows, or rows that arrived.
struct KeySide {
  SharedRows rows;
  Columns keys, values;
};
KeySide own_side(const SequenceTables& tables, const Tensor& qkv);
/// Rows with their keys and values side by side, [rows, 2 W].
KeySide side_of(SharedRows rows, const Tensor& keys);
KeySide side_of(const SequenceTables& tables, const RemoteKeys& remote);

/// A forget gate's sums of all rows of the batch as a place's calls read them. `sums` may be undefined; so is then what
/// comes.
class PlaceSums {
 public:
  PlaceSums(Backend& backend, const SequenceTables& tables, int place, const Tensor& sums);
  const Tensor& own() const { return own_; }  ///< [rows, 2 H] of the place
  Tensor of(const RemoteKeys& remote) const;

 private:
  Backend& backend_;
  const SequenceTables& tables_;
  Tensor all_, own_;
};
/// The rows of remote keys in the whole batch.
std::vector<Chunk> chunks_of(const SequenceTables& tables, const RemoteKeys& remote);

/// How many of the remote keys that arrive the queries of a place meet: a call of attention for each.
std::size_t used_stops(const Schedule& schedule, int place);

/// The stages of a place's calls, one after the other.
class Stages {
 public:
  explicit Stages(std::size_t calls) : left_(calls) {}
  CallStage next() {
    const CallStage stage{first_, --left_ == 0};
    first_ = false;
    return stage;
  }

 private:
  std::size_t left_;
  bool first_ = true;
};

struct AttendedRows {
  Tensor output;  ///< [N, H E]
  Tensor lse;     ///< [N, H]
};
/// `sums`: of all rows of the batch, BiasTerms::sums; undefined: none. Collective over `ring`.
AttendedRows forward_pass(Backend& backend, Communicator& ring, const SequenceTables& tables, const BiasTerms& bias,
                          const Tensor& sums, const Tensor& qkv);

struct AttentionGradients {
  Tensor dqkv;
  BiasGradients bias;  ///< this place's part
  Tensor sums;         ///< likewise, [N, H] of all rows of the batch; undefined: none
};
/// `attended`: of forward_pass; `delta` [N, H]: of Backend::attention_delta. Collective over `ring`.
AttentionGradients backward_pass(Backend& backend, Communicator& ring, const SequenceTables& tables,
                                 const BiasTerms& bias, const Tensor& sums, const Tensor& qkv,
                                 const AttendedRows& attended, const Tensor& doutput, const Tensor& delta);

}  // namespace lexring
