/// Matrix products by oneDNN, with one primitive kept per shape.
#pragma once

#include <memory>

#include "framework/tensor/tensor.h"

namespace lexring::cpu {

enum class Layout { rows, columns };  ///< as stored, or its transpose

class MatrixProducts {
 public:
  explicit MatrixProducts(Runtime& runtime);
  ~MatrixProducts();

  /// c [m, n] = (or +=) a [m, k] b [k, n] + bias [n] (f32, may be undefined). Layout::columns: the operand is stored transposed.
  /// a and b f32 or bf16 alike, c either or f32. Accumulates in f32.
  void product(const Tensor& a, Layout a_layout, const Tensor& b, Layout b_layout, const Tensor& bias, const Tensor& c, bool accumulate);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring::cpu
