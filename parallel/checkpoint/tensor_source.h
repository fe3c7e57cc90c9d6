/// Where tensors come from: a checkpoint of lexring, or any other format that can say what tensors it holds and give
/// blocks of them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

/// One rank's part of a logical tensor. `data` has the part's shape; the part begins at `offset` of the whole.
struct LogicalTensor {
  std::string name;  ///< "layers.0.ffn.up.weight", "optimizer.first_moment.layers.0.ffn.up.weight"
  Shape full_shape;
  Shape offset;
  Tensor data;
};

/// Nothing here is collective: every rank has a source of its own, asks it for the parts that it needs, as many as it
/// likes, and meets nobody. What ranks must agree on (that all have the same source, that it is sound) is settled by
/// whoever made the source. One thread at a time.
class TensorSource {
 public:
  struct Info {
    Dtype dtype;  ///< what `read` converts from
    Shape shape;  ///< of the whole
  };

  virtual ~TensorSource() = default;
  /// What it is, as messages have it: "runs/first/step-00001000".
  virtual std::string origin() const = 0;
  /// Of all tensors, in name order.
  virtual std::vector<std::string> names() const = 0;
  /// Nothing where there is no tensor of this name.
  virtual std::optional<Info> info(const std::string& name) const = 0;

  /// Fills `part.data`, on whatever device it is, converting between f32, f64 and bf16. Holds no more than the part in
  /// host memory, twice. Throws Error when there is no such tensor, when its full shape is another, when its dtype
  /// cannot be converted, when the part is not inside, and when it cannot be read.
  void read(const LogicalTensor& part) const;

 private:
  /// Writes the block [offset, offset + shape) in the tensor's own dtype, dense and row-major, into `out`, which has
  /// its size. The block is inside the tensor and not empty. Throws Error.
  virtual void do_read(const std::string& name, const Shape& offset, const Shape& shape,
                       std::span<std::byte> out) const = 0;
};

}  // namespace lexring
