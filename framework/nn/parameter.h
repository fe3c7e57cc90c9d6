/// A named parameter: its value, gradient and place in the full array.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

struct NamedShape {
  std::string name;
  Shape shape;
};

/// Numbers from `low` to `high`, both included.
struct Interval {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool operator==(const Interval&) const = default;
};

/// The part of a parameter that one process holds: a block of the whole array.
struct ParameterPart {
  std::string name;
  Shape full_shape;
  Shape offset;  ///< where the part begins
  Shape shape;   ///< of the part; a size may be 0
  /// Of the processes among which the array is cut, how many hold this very part, and which of them, from 0, this one
  /// is.
  int copies = 1;
  int copy = 0;
  bool decayed = true;                ///< by AdamW
  bool trainable = true;              ///< else it has no gradient
  std::vector<Interval> domain = {};  ///< as in Parameter

  /// The whole array.
  ParameterPart(std::string of, Shape shape_of_it)
      : name(std::move(of)), full_shape(shape_of_it), offset(shape_of_it.size(), 0), shape(std::move(shape_of_it)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  ParameterPart(NamedShape whole) : ParameterPart(std::move(whole.name), std::move(whole.shape)) {}
};

/// A parameter may be a view of rows of a larger matrix (query, key and value of one fused product): storage is shared,
/// names are not.
struct Parameter {
  std::string name;  ///< as in checkpoints: "layers.0.attention.query.weight"
  Shape full_shape;  ///< of the whole, unsharded array
  Shape offset;      ///< where this rank's part begins in it
  Tensor
      value;  ///< master copy, f32 (f64): this rank's part; undefined where only a sharded optimizer holds it, by rows
  Tensor gradient;  ///< same shape and dtype; accumulated; storage may be that of another section's (Held); undefined
                    ///< where it is not trained
  Tensor compute;   ///< working-precision copy that matrix products read; the same storage as `value` when the dtypes
                    ///< agree; undefined for vectors and lookup tables, which are always read from `value`
  bool looked_up = false;  ///< rows of `value` are read as they are, whether or not there is a compute copy too
  /// As in ParameterPart. With more than one copy, each holder accumulates a part of the gradient: they are summed once
  /// per step (parallel/tensor/replicated.h). Norms and checkpoints count copy 0 only.
  int copies = 1;
  int copy = 0;
  bool decayed = true;  ///< by AdamW
  /// Of each row of the whole array: every step of the optimizer ends with values inside it; empty: all numbers. Only
  /// where there is no compute copy.
  std::vector<Interval> domain = {};

  /// Of this rank's part.
  const Shape& shape() const { return value.defined() ? value.shape() : compute.shape(); }
};

/// What a product reads and where its weight gradient goes; rows may be several parameters.
struct Weight {
  Tensor compute;   ///< [O, I] working
  Tensor gradient;  ///< [O, I] master, accumulated; undefined where it is not trained, as of vectors
};

/// A vector read in master precision (bias, norm weight). Undefined tensors: absent.
struct Vector {
  Tensor value;
  Tensor gradient;
};

}  // namespace lexring
