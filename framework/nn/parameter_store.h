/// Lays a model's parameters out in three flat buffers: values, gradients, compute copies.
///
/// A fused product (query, key and value; gate and up) is one array whose rows are several parameters: names stay, the product is one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// How a matrix is read: by products in working precision, or row by row from the master values.
enum class Use { product, lookup };

class ParameterStore {
 public:
  /// Declares one array made of these parts of parameters, row after row; all their sizes but the first agree. Returns its handle.
  std::size_t declare(std::vector<ParameterPart> rows, Use use = Use::product);
  /// Allocates everything, once, after all declarations. `order` lists every declared name, with its full shape, in the order of
  /// parameters(); throws Error when the two sets differ. Values are uninitialised, gradients 0.
  void allocate(Backend& backend, Dtype master, Dtype working, const std::vector<NamedShape>& order);

  std::vector<Parameter>& parameters() { return parameters_; }
  const Tensor& gradients() const { return gradients_; }  ///< [elements], parameters padded to 64 bytes with zeros

  Weight weight(std::size_t handle) const;  ///< a product's array
  Vector vector(std::size_t handle) const;  ///< a vector's array, or a table that is looked up
  /// Rewrites compute copies from values.
  void refresh_compute(Backend& backend) const;

 private:
  struct Array {
    std::vector<ParameterPart> parts;
    Use use;
    Tensor value, gradient, compute;
  };
  std::vector<Array> arrays_;
  std::vector<Parameter> parameters_;
  Tensor gradients_;
};

}  // namespace lexring
