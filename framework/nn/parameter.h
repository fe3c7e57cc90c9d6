/// A named parameter: its value, gradient and place in the full array.
#pragma once

#include <string>

#include "framework/tensor/tensor.h"

namespace lexring {

struct NamedShape {
  std::string name;
  Shape shape;
};

/// A parameter may be a view of rows of a larger matrix (query, key and value of one fused product): storage is shared, names are not.
struct Parameter {
  std::string name;  ///< as in checkpoints: "layers.0.attention.query.weight"
  Shape full_shape;  ///< of the whole, unsharded array
  Shape offset;      ///< where this rank's part begins in it
  Tensor value;      ///< master copy, f32 (f64): this rank's part
  Tensor gradient;   ///< same shape and dtype; accumulated
  Tensor compute;    ///< working-precision copy that matrix products read; the same storage as `value` when the dtypes agree;
                     ///< undefined for vectors and lookup tables, which are always read from `value`
  bool decays() const { return full_shape.size() >= 2; }  ///< AdamW decays matrices only
};

/// What a product reads and where its weight gradient goes; rows may be several parameters.
struct Weight {
  Tensor compute;   ///< [O, I] working
  Tensor gradient;  ///< [O, I] master, accumulated
};

/// A vector read in master precision (bias, norm weight). Undefined tensors: absent.
struct Vector {
  Tensor value;
  Tensor gradient;
};

}  // namespace lexring
