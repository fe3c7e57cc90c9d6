/// Lays a model's parameters out in three flat buffers: values, gradients, compute copies.
///
/// A fused product (query, key and value; gate and up) is one array whose rows are several parameters: names stay, the
/// product is one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// How a matrix is read: by products in working precision, row by row from the master values, or both.
enum class Use { product, lookup, both };

/// What exists for all parameters at once. The rest belongs to a sharded optimizer, which holds it for its own rows.
enum class Held {
  all,        ///< values, gradients, compute copies
  gradients,  ///< not the master values of what is trained and only read by products, in a precision of its own
  section,    ///< nor all gradients: sections that are used one after another share one storage
};

class ParameterStore {
 public:
  /// Declares one array made of these parts of parameters, row after row; all their sizes but the first agree, and all
  /// are trained or none. Returns its handle.
  std::size_t declare(std::vector<ParameterPart> rows, Use use = Use::product);
  /// Allocates everything, once, after all declarations. `order` lists every declared name, with its full shape, in the
  /// order of parameters(); throws Error when the two sets differ. Values are uninitialised, gradients 0.
  /// `sections`, read with Held::section: names of parameters whose gradients are in use together, and never while
  /// another section's are. What is in no section has a storage of its own.
  void allocate(Backend& backend, Dtype master, Dtype working, const std::vector<NamedShape>& order,
                Held held = Held::all, const std::vector<std::vector<std::string>>& sections = {});

  std::vector<Parameter>& parameters() { return parameters_; }
  /// [elements], parameters padded to 64 bytes with zeros.
  const Tensor& gradients() const { return gradients_; }

  Weight weight(std::size_t handle) const;  ///< a product's array
  Vector vector(std::size_t handle) const;  ///< a vector's array, or a table that is looked up
  /// Rewrites compute copies from values, where these are held.
  void refresh_compute(Backend& backend) const;

 private:
  struct Array {
    std::vector<ParameterPart> parts;
    Use use;
    Tensor value, gradient, compute;
  };
  /// Lays gradients out in one buffer.
  void place_gradients(Backend& backend, Dtype master, const std::vector<std::vector<std::string>>& sections);
  void make_parameters(const std::vector<NamedShape>& order);

  std::vector<Array> arrays_;
  std::vector<Parameter> parameters_;
  Tensor gradients_;
};

}  // namespace lexring
