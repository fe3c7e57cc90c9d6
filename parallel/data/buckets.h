/// Messages between replicas: stretches of the gradients on their way to their sum, rows of parameters on their way to
/// or from their owner.
///
/// A section is a list of parameters (their indices) whose gradients become final together in backward; sections come
/// in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "framework/nn/parameter.h"
#include "parallel/data/row_shares.h"

namespace lexring {

using Sections = std::vector<std::vector<std::size_t>>;

/// A message is large enough to be carried at a link's bandwidth after it was cut into a slice per rank (from about 1
/// MiB on a 1 Gbit/s link, less where latency is lower), and small enough that the last one, which nothing hides, takes
/// little of a step.
inline constexpr std::size_t bucket_bytes = std::size_t{8} << 20;
/// Messages under way at one time. Each holds as much again to receive into, so this bounds the memory that reduction
/// takes.
inline constexpr std::size_t most_under_way = 4;

/// A contiguous stretch of the flat buffer of gradients.
struct Stretch {
  std::size_t section;  ///< with which the last of it becomes final
  std::int64_t first, count;
};

/// The flat buffer from its end to its beginning, as backward finishes it, in stretches of `bytes`. Throws Error where
/// the sections do not lie in it in that order.
std::vector<Stretch> cut_gradients(const Tensor& gradients, const std::vector<Parameter>& parameters,
                                   const Sections& sections, std::size_t bytes = bucket_bytes);

/// Rows of parameters, sorted by their owner, one after another in a message.
struct Bucket {
  struct Rows {
    RowShare share;
    int owner;
    std::size_t section;
  };
  std::vector<Rows> rows;
  std::size_t section = 0;  ///< with which the last of it becomes final
};

/// All parameters in the order of their sections, in messages of about `bytes` of gradients. Where a parameter is
/// longer than a message, each takes as much from every owner's rows.
std::vector<Bucket> make_buckets(const std::vector<Parameter>& parameters, const Sections& sections,
                                 const std::vector<std::vector<RowShare>>& shares, std::size_t bytes = bucket_bytes);

/// A bucket's rows in memory of their own, one after another: what travels.
struct Message {
  Tensor memory;                      ///< [n], flat
  std::vector<Tensor> rows;           ///< by Bucket::rows: their place in it
  std::vector<std::int64_t> borders;  ///< of the owners' slices, in elements of `memory`
};

/// `bytes_of` says how long rows are; all must be whole elements of `dtype`.
Message make_message(Runtime& runtime, const Bucket& bucket, int ranks, Dtype dtype,
                     const std::function<std::size_t(const RowShare&)>& bytes_of);

}  // namespace lexring
